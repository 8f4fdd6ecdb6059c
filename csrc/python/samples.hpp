// Arguments of fading maps: times, and samples as scalars or columns.
#pragma once

#include "kernels/fading.hpp"
#include "python/arguments.hpp"

namespace emert::python {

/// One argument: a scalar, which goes with every sample, or a column.
struct Series {
    py::array array;  // keeps the column's memory
    double number = 0.0;
    std::int64_t time = 0;
    std::ptrdiff_t length = -1;  // -1: a scalar
};

/// Samples of one length, checked; what it hands out points into it.
class SamplesArgument {
  public:
    SamplesArgument(py::handle t_ns, py::handle x, py::handle y, py::handle weight);
    SamplesArgument(const SamplesArgument&) = delete;
    SamplesArgument& operator=(const SamplesArgument&) = delete;

    TimeColumn times() const;
    Points points() const;

  private:
    Series times_;
    Series x_;
    Series y_;
    Series weight_;
    std::ptrdiff_t count_ = -1;
};

/// One time in nanoseconds.
std::int64_t time_argument(py::handle value, const char* name);

/// Seconds above 0, infinity among them.
double half_life_argument(double half_life_s);

}  // namespace emert::python

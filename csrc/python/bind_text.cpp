#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "python/bindings.hpp"
#include "text/cells.hpp"
#include "text/rows.hpp"

namespace emert::python {

namespace py = pybind11;

namespace {

using Offsets = py::array_t<std::int32_t, py::array::c_style>;

/// A column's cells; every one lies within its text.
Cells cells_argument(const py::bytes& text, const Offsets& begin, const Offsets& end) {
    const Cells cells{text, begin.data(), end.data(), begin.size()};
    if (begin.ndim() != 1 || end.ndim() != 1 || begin.size() != end.size()) {
        throw py::value_error("begin and end must have one dimension and one length");
    }
    for (std::ptrdiff_t row = 0; row < cells.size; ++row) {
        if (cells.begin[row] < 0 || cells.begin[row] > cells.end[row] ||
            static_cast<std::size_t>(cells.end[row]) > cells.text.size()) {
            throw py::value_error("a cell lies outside its text");
        }
    }
    return cells;
}

py::tuple rows(const py::bytes& text, char delimiter, std::int64_t columns, const std::vector<std::int64_t>& places,
               bool unquote) {
    const std::string_view view = text;
    if (view.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
        throw py::value_error("text must be below 2 GiB");
    }
    const std::ptrdiff_t lines = count_lines(view);
    const auto wanted = static_cast<py::ssize_t>(places.size());
    py::array_t<std::int64_t> line(lines);
    py::array_t<std::int32_t> begin({wanted, static_cast<py::ssize_t>(lines)});
    py::array_t<std::int32_t> end({wanted, static_cast<py::ssize_t>(lines)});
    const RowsOut out{line.mutable_data(), begin.mutable_data(), end.mutable_data(), lines};
    RowsRead read;
    {
        const py::gil_scoped_release released;
        read = read_rows(view, delimiter, columns, places, unquote, out);
    }
    const RaggedRow& ragged = read.ragged;
    py::object wrong = py::none();
    if (ragged.line >= 0) wrong = py::make_tuple(ragged.line, ragged.cells, ragged.unfinished);
    return py::make_tuple(read.rows, line, begin, end, wrong);
}

py::tuple numbers(const py::bytes& text, const Offsets& begin, const Offsets& end,
                  const std::vector<std::string>& missing) {
    const Cells cells = cells_argument(text, begin, end);
    py::array_t<double> value(cells.size);
    py::array_t<bool> read(cells.size);
    double* values = value.mutable_data();
    bool* reads = read.mutable_data();
    {
        const py::gil_scoped_release released;
        read_numbers(cells, missing, values, reads);
    }
    return py::make_tuple(value, read);
}

py::tuple times(const py::bytes& text, const Offsets& begin, const Offsets& end, int keep) {
    const Cells cells = cells_argument(text, begin, end);
    if (keep < 0 || keep > 9) throw py::value_error("a time's unit is 1 to 10^9 nanoseconds");
    py::array_t<std::int64_t> value(cells.size);
    py::array_t<bool> read(cells.size);
    std::int64_t* values = value.mutable_data();
    bool* reads = read.mutable_data();
    {
        const py::gil_scoped_release released;
        read_times(cells, keep, values, reads);
    }
    return py::make_tuple(value, read);
}

py::array_t<std::uint8_t> gathered(const py::bytes& text, const Offsets& begin, const Offsets& end, std::size_t width) {
    const Cells cells = cells_argument(text, begin, end);
    py::array_t<std::uint8_t> out({cells.size, static_cast<py::ssize_t>(width)});
    char* to = reinterpret_cast<char*>(out.mutable_data());
    {
        const py::gil_scoped_release released;
        gather(cells, width, to);
    }
    return out;
}

}  // namespace

void register_text(py::module_& module) {
    module.def("text_rows", &rows, py::arg("text"), py::arg("delimiter"), py::arg("columns"), py::arg("places"),
               py::arg("unquote"));
    module.def("cell_numbers", &numbers, py::arg("text"), py::arg("begin"), py::arg("end"), py::arg("missing"));
    module.def("cell_times", &times, py::arg("text"), py::arg("begin"), py::arg("end"), py::arg("keep"));
    module.def("cell_bytes", &gathered, py::arg("text"), py::arg("begin"), py::arg("end"), py::arg("width"));
}

}  // namespace emert::python

// What cells of text hold: plain numbers and times, and the words that a column repeats.
//
// A cell is [begin, end) of its text. What is not plain (spaces around, a plus sign, no number at all) is left to the
// caller, who judges it with care and knows its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace emert {

struct Cells {
    std::string_view text;
    const std::int32_t* begin;
    const std::int32_t* end;
    std::ptrdiff_t size;

    std::string_view operator[](std::ptrdiff_t row) const {
        return text.substr(static_cast<std::size_t>(begin[row]), static_cast<std::size_t>(end[row] - begin[row]));
    }
};

/// Numbers as the nearest float64, with a point or one decimal comma, with or without an exponent; NaN for an empty
/// cell, "nan" in any case, and a cell that equals one of `missing`. `read` tells which cells were of these kinds.
void read_numbers(const Cells& cells, const std::vector<std::string>& missing, double* value, bool* read);

/// Plain decimals of a unit of 10^`keep` nanoseconds as whole nanoseconds, halves to even; `read` tells which cells
/// were such decimals and few enough digits to be exact.
void read_times(const Cells& cells, int keep, std::int64_t* value, bool* read);

/// The cells one after the other, each in `width` bytes: cut there, or filled with zeros.
void gather(const Cells& cells, std::size_t width, char* out);

}  // namespace emert

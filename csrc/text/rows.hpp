// Delimited text as rows of cells: where the cells of the columns that are wanted begin and end.
//
// text     whole lines, \n between them, below 2 GiB; the last one may lack its end
// places   columns that are wanted, rising
// begin    int32 (places, rows), offsets into the text; a cell is [begin, end)
// end      likewise
// line     int64 (rows), a row's line within the text, from 0; blank lines are no rows
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace emert {

/// A row with too few or too many cells.
struct RaggedRow {
    std::int64_t line = -1;  ///< -1: there is none
    std::int64_t cells = 0;
    bool unfinished = false;  ///< it is the text's last line and lacks its end
};

struct RowsOut {
    std::int64_t* line;
    std::int32_t* begin;
    std::int32_t* end;
    std::ptrdiff_t capacity;  ///< rows that there is room for: at least the number of lines
};

struct RowsRead {
    std::ptrdiff_t rows;
    RaggedRow ragged;  ///< the first one; reading ends there
};

/// The number of lines, the last one included where it lacks its end.
std::ptrdiff_t count_lines(std::string_view text);

/// Finds the cells. A cell in quotes loses them where `unquote` says so.
RowsRead read_rows(std::string_view text, char delimiter, std::int64_t columns, const std::vector<std::int64_t>& places,
                   bool unquote, const RowsOut& out);

}  // namespace emert

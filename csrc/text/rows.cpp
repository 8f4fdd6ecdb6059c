#include "text/rows.hpp"

#include <algorithm>
#include <cstring>

namespace emert {

namespace {

constexpr std::uint64_t kEveryByte = 0x0101010101010101u;
constexpr std::uint64_t kLowBits = 0x7f * kEveryByte;

/// The highest bit of every byte that is zero, exactly.
constexpr std::uint64_t zero_bytes(std::uint64_t word) {
    return ~(((word & kLowBits) + kLowBits) | word | kLowBits);
}

/// Eight bytes, the first one lowest.
std::uint64_t load(const char* from) {
    std::uint64_t word;
    std::memcpy(&word, from, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/// Calls `found(place)` for every byte that is `first` or `second`, in their order, until it says false.
template <typename Found>
void each_mark(std::string_view text, char first, char second, Found found) {
    const std::uint64_t ones = kEveryByte * static_cast<unsigned char>(first);
    const std::uint64_t others = kEveryByte * static_cast<unsigned char>(second);
    std::size_t place = 0;
    for (; place + 8 <= text.size(); place += 8) {
        const std::uint64_t word = load(text.data() + place);
        std::uint64_t marks = zero_bytes(word ^ ones) | zero_bytes(word ^ others);
        for (; marks != 0; marks &= marks - 1) {
            if (!found(place + static_cast<std::size_t>(__builtin_ctzll(marks)) / 8)) return;
        }
    }
    for (; place < text.size(); ++place) {
        if ((text[place] == first || text[place] == second) && !found(place)) return;
    }
}

class Walk {
  public:
    Walk(std::string_view text, std::int64_t columns, const std::vector<std::int64_t>& places, bool unquote,
         const RowsOut& out)
        : text_(text), columns_(columns), places_(places), unquote_(unquote), out_(out) {}

    /// A delimiter or a line's end at `place`; false ends the walk.
    bool mark(std::size_t place) {
        if (text_[place] != '\n') {
            cell(place);
            return true;
        }
        return line(place, false);
    }

    /// The end of the text, where no line's end stands before it.
    void finish() {
        if (row_start_ < text_.size() && read.ragged.line < 0) line(text_.size(), true);
    }

    RowsRead read{0, {}};

  private:
    void cell(std::size_t end) {
        if (wanted_ < places_.size() && places_[wanted_] == cells_) {
            const bool quoted =
                unquote_ && end - cell_start_ >= 2 && text_[cell_start_] == '"' && text_[end - 1] == '"';
            const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(wanted_) * out_.capacity + read.rows;
            out_.begin[at] = static_cast<std::int32_t>(cell_start_ + quoted);
            out_.end[at] = static_cast<std::int32_t>(end - quoted);
            ++wanted_;
        }
        cell_start_ = end + 1;
        ++cells_;
    }

    bool line(std::size_t end, bool unfinished) {
        const bool blank = end == row_start_;
        if (!blank) {
            cell(end);
            if (cells_ != columns_) {
                read.ragged = {lines_, cells_, unfinished};
                return false;
            }
            out_.line[read.rows++] = lines_;
        }
        ++lines_;
        row_start_ = cell_start_ = end + 1;
        cells_ = 0;
        wanted_ = 0;
        return true;
    }

    std::string_view text_;
    std::int64_t columns_;
    const std::vector<std::int64_t>& places_;
    bool unquote_;
    RowsOut out_;
    std::size_t row_start_ = 0;
    std::size_t cell_start_ = 0;
    std::size_t wanted_ = 0;
    std::int64_t cells_ = 0;
    std::int64_t lines_ = 0;
};

}  // namespace

std::ptrdiff_t count_lines(std::string_view text) {
    return std::count(text.begin(), text.end(), '\n') + (!text.empty() && text.back() != '\n');
}

RowsRead read_rows(std::string_view text, char delimiter, std::int64_t columns, const std::vector<std::int64_t>& places,
                   bool unquote, const RowsOut& out) {
    Walk walk(text, columns, places, unquote, out);
    each_mark(text, delimiter, '\n', [&](std::size_t place) { return walk.mark(place); });
    walk.finish();
    return walk.read;
}

}  // namespace emert

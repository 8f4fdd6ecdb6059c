#include "text/cells.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

namespace emert {

namespace {

constexpr std::size_t kWidestNumber = 64;
constexpr int kUint64Digits = 19;  // so many always fit
constexpr int kExactDigits = 18;   // and so many fit int64 with room for a last one
constexpr std::uint64_t kExactFloat = std::uint64_t{1} << 53;
// The powers of ten that float64 holds exactly.
constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
constexpr int kLargestPower = 22;

bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

bool is_point(char byte) {
    return byte == '.' || byte == ',';
}

bool is_nan(std::string_view cell) {
    return cell.size() == 3 && (cell[0] | 0x20) == 'n' && (cell[1] | 0x20) == 'a' && (cell[2] | 0x20) == 'n';
}

/// [-]digits[.digits] whose digits and power of ten are both exact in float64: their quotient is the nearest number.
bool read_decimal(std::string_view cell, double& value) {
    const bool negative = cell.front() == '-';
    std::uint64_t digits = 0;
    int count = 0;
    int decimals = 0;
    bool point = false;
    for (const char byte : cell.substr(negative)) {
        if (is_digit(byte)) {
            digits = 10 * digits + static_cast<std::uint64_t>(byte - '0');
            if (++count > kUint64Digits) return false;
            decimals += point;
        } else if (is_point(byte) && !point) {
            point = true;
        } else {
            return false;
        }
    }
    if (count == 0 || digits > kExactFloat || decimals > kLargestPower) return false;
    value = static_cast<double>(digits) / kPowers[decimals];
    if (negative) value = -value;
    return true;
}

/// Many digits, exponents. A C++ library without from_chars for float64 leaves them to the caller.
bool read_any_decimal([[maybe_unused]] std::string_view cell, [[maybe_unused]] double& value) {
#if defined(__cpp_lib_to_chars)
    if (cell.size() > kWidestNumber) return false;
    char copy[kWidestNumber];
    int points = 0;
    for (std::size_t at = 0; at < cell.size(); ++at) {
        const char byte = cell[at];
        if (is_point(byte)) {
            ++points;
        } else if (!is_digit(byte) && byte != '-' && byte != '+' && byte != 'e' && byte != 'E') {
            return false;
        }
        copy[at] = byte == ',' ? '.' : byte;
    }
    if (points > 1) return false;
    const char* stop = copy + cell.size();
    const std::from_chars_result result = std::from_chars(copy, stop, value);
    return result.ec == std::errc{} && result.ptr == stop;
#else
    return false;
#endif
}

bool read_time(std::string_view cell, int keep, std::int64_t& value) {
    if (cell.empty()) return false;
    const bool negative = cell.front() == '-';
    std::int64_t whole = 0;
    int digits = 0;  // of `whole`
    int decimals = 0;
    int first_cut = 0;
    bool beyond = false;  // anything but 0 after the first digit that is cut
    bool point = false;
    for (const char byte : cell.substr(negative)) {
        if (is_digit(byte)) {
            if (!point || decimals < keep) {
                if (++digits > kExactDigits) return false;
                whole = 10 * whole + (byte - '0');
            } else if (decimals == keep) {
                first_cut = byte - '0';
            } else {
                beyond = beyond || byte != '0';
            }
            decimals += point;
        } else if (is_point(byte) && !point) {
            point = true;
        } else {
            return false;
        }
    }
    const int scale = keep - std::min(decimals, keep);
    if (digits == 0 || digits + scale > kExactDigits) return false;
    for (int power = 0; power < scale; ++power) whole *= 10;
    whole += first_cut > 5 || (first_cut == 5 && (beyond || whole % 2 == 1));
    value = negative ? -whole : whole;
    return true;
}

}  // namespace

void read_numbers(const Cells& cells, const std::vector<std::string>& missing, double* value, bool* read) {
    for (std::ptrdiff_t row = 0; row < cells.size; ++row) {
        const std::string_view cell = cells[row];
        value[row] = std::numeric_limits<double>::quiet_NaN();
        read[row] = cell.empty() || read_decimal(cell, value[row]) ||
                    std::find(missing.begin(), missing.end(), cell) != missing.end() ||
                    read_any_decimal(cell, value[row]) || is_nan(cell);
    }
}

void read_times(const Cells& cells, int keep, std::int64_t* value, bool* read) {
    for (std::ptrdiff_t row = 0; row < cells.size; ++row) {
        value[row] = 0;
        read[row] = read_time(cells[row], keep, value[row]);
    }
}

void gather(const Cells& cells, std::size_t width, char* out) {
    for (std::ptrdiff_t row = 0; row < cells.size; ++row, out += width) {
        const std::string_view cell = cells[row].substr(0, width);
        std::memcpy(out, cell.data(), cell.size());
        std::memset(out + cell.size(), 0, width - cell.size());
    }
}

}  // namespace emert

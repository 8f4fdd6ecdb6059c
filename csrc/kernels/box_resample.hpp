// Separable box means: what fused frames and upright crops have in common. Compiled into each instruction set's bodies.
#pragma once

#include <cstddef>

#include "emert/box.hpp"
#include "emert/views.hpp"

namespace emert::EMERT_ISA {

/// The spans of an output's columns and rows.
struct BoxGrid {
    const BoxSpan* columns;
    const BoxSpan* rows;
};

/// Scratch bytes that resample_frame() needs for a frame and an output of these widths.
std::size_t frame_scratch_bytes(std::int32_t width, std::int32_t out_width);

/// Scratch bytes that resample_plane() needs for a plane of this width.
std::size_t plane_scratch_bytes(std::int32_t width);

/// Writes the three normalised planes of `frame` at the start of `out`.
void resample_frame(const FrameView& frame, const BoxGrid& grid, const ChannelMap& channels, const PlanesOut& out,
                    void* memory);

/// Writes one plane to `out`, which is its own start.
void resample_plane(const PlaneView& plane, const BoxGrid& grid, const PlanesOut& out, void* memory);

}  // namespace emert::EMERT_ISA

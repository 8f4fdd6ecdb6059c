// A frame and its fixation map, resampled to one size: planes R, G, B (normalised) and map.
//
// frame          uint8 (h, w, 3), any strides
// fixation_map   float32 (h', w'), any strides
// out            float32 (4, height, width), C-contiguous
#pragma once

#include "emert/views.hpp"

namespace emert {

using FuseGazeFrameBody = void(const FrameView& frame, const PlaneView& map, const ChannelMap& channels,
                               const PlanesOut& out);

}  // namespace emert

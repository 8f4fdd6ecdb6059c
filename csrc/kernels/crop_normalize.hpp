// An antialiased affine crop as normalised planes R, G, B.
//
// frame   uint8 (h, w, 3), any strides
// out     float32 (3, height, width), C-contiguous
#pragma once

#include "emert/affine.hpp"
#include "emert/views.hpp"

namespace emert {

using CropNormalizeBody = void(const FrameView& frame, const SourceMap& source, const ChannelMap& channels,
                               const PlanesOut& out);

}  // namespace emert

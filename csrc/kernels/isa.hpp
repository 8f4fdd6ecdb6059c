// Which instruction set the CPU bodies run on: each body is compiled once per set, one table of them is chosen at run
// time.
#pragma once

#include <vector>

#include "kernels/crop_normalize.hpp"
#include "kernels/fixation_map.hpp"
#include "kernels/fuse_gaze_frame.hpp"

namespace emert {

struct CpuBodies {
    const char* name;
    FixationMapBody* fixation_map;
    FixationSumBody* fixation_sum;
    FixationReadBody* fixation_read;
    FuseGazeFrameBody* fuse_gaze_frame;
    CropNormalizeBody* crop_normalize;
};

/// The bodies in use; the fastest that this CPU can run unless choose_cpu_bodies() said otherwise.
const CpuBodies& cpu_bodies();

/// Every table that this CPU can run, slowest first.
std::vector<const CpuBodies*> available_cpu_bodies();

/// Takes the table called `name` from now on; false where this CPU has none of that name.
bool choose_cpu_bodies(const char* name);

}  // namespace emert

// Compiled once per instruction set, with EMERT_ISA its namespace.
#include "kernels/isa.hpp"

#define EMERT_TEXT_OF(name) #name
#define EMERT_TEXT(name) EMERT_TEXT_OF(name)

namespace emert::EMERT_ISA {

FixationMapBody fixation_map;
FixationSumBody fixation_sum;
FixationReadBody fixation_read;
FuseGazeFrameBody fuse_gaze_frame;
CropNormalizeBody crop_normalize;

extern const CpuBodies cpu_bodies;
const CpuBodies cpu_bodies{
    EMERT_TEXT(EMERT_ISA), fixation_map, fixation_sum, fixation_read, fuse_gaze_frame, crop_normalize,
};

}  // namespace emert::EMERT_ISA

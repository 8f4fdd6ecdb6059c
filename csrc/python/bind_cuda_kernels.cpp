#include <limits>
#include <mutex>

#include "python/cuda_arguments.hpp"
#include "python/samples.hpp"

namespace emert::python {

namespace {

/// One array of some axes, or a batch of them along one more in front.
struct Batch {
    std::ptrdiff_t count = 1;
    std::ptrdiff_t step = 0;  // in bytes; 0: one that all share
    std::size_t first_axis = 0;
    bool single = true;

    Batch(const Strided& array, std::ptrdiff_t axes) {
        single = array.axes() == axes;
        if (single) return;
        count = array.shape[0];
        step = array.strides[0];
        first_axis = 1;
    }

    std::ptrdiff_t side(const Strided& array, std::size_t axis) const { return array.shape[first_axis + axis]; }
    std::ptrdiff_t stride(const Strided& array, std::size_t axis) const { return array.strides[first_axis + axis]; }
};

bool has_axes(const Strided& array, std::ptrdiff_t axes) {
    return array.axes() == axes || array.axes() == axes + 1;
}

/// Images of `planes` planes (0: single planes without that axis).
struct OutArgument {
    Strided array;
    cuda::ImagesOut images;
    bool single;
};

OutArgument out_images(py::handle value, int planes, OneDevice& device, std::initializer_list<const Strided*> inputs) {
    OutArgument out{device_out(value, "out", device, inputs), {}, true};
    const std::ptrdiff_t axes = planes == 0 ? 2 : 3;
    const std::string wanted = planes == 0 ? "height, width)" : std::to_string(planes) + ", height, width)";
    const Strided& array = out.array;
    if (!has_axes(array, axes)) wrong_shape("out", "(" + wanted + " or (n, " + wanted, array);
    const Batch batch(array, axes);
    if (planes != 0 && batch.side(array, 0) != planes) wrong_shape("out", "(" + wanted + " or (n, " + wanted, array);
    const std::size_t height = planes == 0 ? 0 : 1;
    if (batch.count > cuda::kMostBlocks || batch.side(array, height) > cuda::kMostBlocks) {
        throw py::value_error("out must have at most " + std::to_string(cuda::kMostBlocks) + " images and rows");
    }
    out.single = batch.single;
    out.images = {values_of(array), static_cast<std::int32_t>(batch.count),
                  pixels_argument(batch.side(array, height), "out"),
                  pixels_argument(batch.side(array, height + 1), "out")};
    return out;
}

/// Refuses a batch of another length than the output's; without a batch axis one serves all.
void check_batch(const char* name, const Batch& batch, const OutArgument& out) {
    if (batch.single || (!out.single && batch.count == out.images.count)) return;
    const std::string has = std::to_string(batch.count);
    throw py::value_error(out.single ? std::string(name) + " is a batch of " + has + ", and out takes one image"
                                     : std::string(name) + " is a batch of " + has + ", and out one of " +
                                           std::to_string(out.images.count));
}

struct FramesArgument {
    Strided array;
    Batch batch;
    cuda::Frames frames;
};

FramesArgument frames_argument(py::handle value, OneDevice& device) {
    Strided array = device_argument(value, "frame", {"u1"}, device);
    if (!has_axes(array, 3) || array.shape.back() != 3) {
        wrong_shape("frame", "(height, width, 3) or (n, height, width, 3)", array);
    }
    const Batch batch(array, 3);
    const FrameView view{reinterpret_cast<const std::uint8_t*>(array.address),
                         pixels_argument(batch.side(array, 0), "frame"),
                         pixels_argument(batch.side(array, 1), "frame"),
                         batch.stride(array, 0),
                         batch.stride(array, 1),
                         batch.stride(array, 2)};
    return {std::move(array), batch, {view, batch.step}};
}

void run(cudaError_t status, const char* what) {
    check_cuda(status, what);
}

void fixation_map_into(py::handle out, py::handle xy, py::handle weight, double sigma, py::handle stream) {
    OneDevice device;
    const Strided points = device_argument(xy, "xy", {"f4", "f8"}, device);
    const Strided weights = device_argument(weight, "weight", {"f4", "f8"}, device);
    positive_argument(sigma, "sigma");
    if (!has_axes(points, 2) || points.shape.back() != 2) wrong_shape("xy", "(count, 2) or (n, count, 2)", points);
    const Batch sets(points, 2);
    const std::ptrdiff_t count = sets.side(points, 0);
    if (!has_axes(weights, 1) || weights.shape.back() != count) {
        wrong_shape("weight", "(" + std::to_string(count) + ",) or (n, " + std::to_string(count) + ")", weights);
    }
    if (count > std::numeric_limits<std::int32_t>::max() / 4) throw py::value_error("xy has too many points");
    const Batch weight_sets(weights, 1);
    const OutArgument images = out_images(out, 0, device, {&points, &weights});
    check_batch("xy", sets, images);
    check_batch("weight", weight_sets, images);
    const auto column = [](const Strided& array, std::ptrdiff_t stride, std::ptrdiff_t offset) {
        return Column{reinterpret_cast<const char*>(array.address) + offset, stride, array.type == "f8"};
    };
    const std::ptrdiff_t next = sets.stride(points, 0);
    const cuda::PointSets arguments{{column(points, next, 0), column(points, next, sets.stride(points, 1)),
                                     column(weights, weight_sets.stride(weights, 0), 0), count},
                                    sets.step,
                                    weight_sets.step};
    const Current current(device.index());
    run(cuda::fixation_map(arguments, sigma, images.images, stream_argument(stream)), "fixation_map");
}

void fuse_gaze_frame_into(py::handle out, py::handle frame, py::handle fixation_map, py::handle mean, py::handle std,
                          const std::string& color, py::handle stream) {
    OneDevice device;
    const FramesArgument pixels = frames_argument(frame, device);
    const Strided map = device_argument(fixation_map, "fixation_map", {"f4"}, device);
    if (!has_axes(map, 2)) wrong_shape("fixation_map", "(height, width) or (n, height, width)", map);
    const Batch maps(map, 2);
    const PlaneView plane{reinterpret_cast<const char*>(map.address),
                          pixels_argument(maps.side(map, 0), "fixation_map"),
                          pixels_argument(maps.side(map, 1), "fixation_map"), maps.stride(map, 0), maps.stride(map, 1)};
    const ChannelMap channels = channels_argument(mean, std, color);
    const OutArgument images = out_images(out, 4, device, {&pixels.array, &map});
    check_batch("frame", pixels.batch, images);
    check_batch("fixation_map", maps, images);
    const Current current(device.index());
    run(cuda::fuse_gaze_frame(pixels.frames, {plane, maps.step}, channels, images.images, stream_argument(stream)),
        "fuse_gaze_frame");
}

/// An affine that lies where the GPU reads it, rather than on the host.
bool is_device_array(py::handle value) {
    return !py::isinstance<py::array>(value) && py::hasattr(value, "__cuda_array_interface__");
}

void crop_normalize_into(py::handle out, py::handle frame, py::handle affine, py::handle mean, py::handle std,
                         const std::string& color, py::handle stream) {
    OneDevice device;
    const FramesArgument pixels = frames_argument(frame, device);
    const ChannelMap channels = channels_argument(mean, std, color);
    if (is_device_array(affine)) {
        const Strided affines = device_argument(affine, "affine", {"f8"}, device);
        if (!has_axes(affines, 2) || affines.shape[affines.shape.size() - 2] != 2 || affines.shape.back() != 3) {
            wrong_shape("affine", "(2, 3) or (n, 2, 3)", affines);
        }
        if (!affines.contiguous()) throw py::value_error("affine must be C-contiguous");
        const OutArgument images = out_images(out, 3, device, {&pixels.array, &affines});
        check_batch("frame", pixels.batch, images);
        if ((affines.axes() == 3 ? affines.shape[0] : 1) != images.images.count) {
            throw py::value_error("affine must have one matrix for each image of out");
        }
        const Current current(device.index());
        run(cuda::crop_normalize_at(pixels.frames, reinterpret_cast<const double*>(affines.address), channels,
                                    images.images, stream_argument(stream)),
            "crop_normalize");
        return;
    }
    const OutArgument images = out_images(out, 3, device, {&pixels.array});
    check_batch("frame", pixels.batch, images);
    const std::vector<SourceMap> sources =
        images.single ? std::vector<SourceMap>{source_argument(affine)} : sources_argument(affine);
    if (static_cast<std::ptrdiff_t>(sources.size()) != images.images.count) {
        throw py::value_error("affine has " + std::to_string(sources.size()) + " matrices, and out " +
                              std::to_string(images.images.count) + " images");
    }
    const Current current(device.index());
    run(cuda::crop_normalize(pixels.frames, sources.data(), channels, images.images, stream_argument(stream)),
        "crop_normalize");
}

void assemble_tokens_into(py::handle out, py::handle mask, py::handle tokens, py::handle index, py::handle stream) {
    OneDevice device;
    const Strided store = device_argument(tokens, "tokens", {"f4", "f2"}, device);
    const Strided places = device_argument(index, "index", {"i4"}, device);
    if (store.axes() != 2) wrong_shape("tokens", "(capacity, length)", store);
    if (!store.contiguous()) throw py::value_error("tokens must be C-contiguous");
    if (places.axes() < 1) wrong_shape("index", "(…, places)", places);
    if (!places.contiguous()) throw py::value_error("index must be C-contiguous");
    const Strided values = device_out(out, "out", device, {&store, &places});
    std::vector<std::ptrdiff_t> wanted = places.shape;
    wanted.push_back(store.shape[1]);
    if (values.shape != wanted) throw py::value_error("out must have index's shape and the tokens' length");
    ValuesOut masks{nullptr, false};
    Strided mask_values;
    if (!mask.is_none()) {
        mask_values = device_out(mask, "mask", device, {&store, &places, &values});
        if (mask_values.shape != places.shape) throw py::value_error("mask must have index's shape");
        masks = values_of(mask_values);
    }
    if (places.size() == 0 || store.shape[1] == 0) return;
    if (places.size() > std::numeric_limits<std::int32_t>::max() || store.shape[1] > 256 * cuda::kMostBlocks) {
        throw py::value_error("tokens or index are too large");
    }
    const cuda::TokenChoice choice{{reinterpret_cast<const void*>(store.address), store.type == "f2"},
                                   store.shape[0],
                                   store.shape[1],
                                   reinterpret_cast<const std::int32_t*>(places.address),
                                   places.size()};
    const Current current(device.index());
    run(cuda::assemble_tokens(choice, values_of(values), masks, stream_argument(stream)), "assemble_tokens");
}

/// A fading map whose sum stands in memory of the caller's, (height, width) float64, zeroed by reset().
class CudaFixationStream {
  public:
    CudaFixationStream(py::handle sum, double sigma, double half_life_s, py::handle stream)
        : sigma_(positive_argument(sigma, "sigma")), clock_(half_life_argument(half_life_s)) {
        sum_ = device_argument(sum, "sum", {"f8"}, device_);
        if (sum_.axes() != 2 || !sum_.contiguous()) wrong_shape("sum", "(height, width), contiguous", sum_);
        height_ = pixels_argument(sum_.shape[0], "shape");
        width_ = pixels_argument(sum_.shape[1], "shape");
        if (height_ > 32 * cuda::kMostBlocks) throw py::value_error("shape has too many rows");
        reset(stream);
    }

    void add(py::handle t_ns, py::handle x, py::handle y, py::handle weight, py::handle stream) {
        const SamplesArgument samples(t_ns, x, y, weight);
        const TimeColumn times = samples.times();
        const Points points = samples.points();
        const cudaStream_t enqueued = stream_argument(stream);
        const Current current(device_.index());
        cudaError_t status;
        {
            const py::gil_scoped_release released;
            const std::lock_guard<std::mutex> lock(mutex_);
            status = add_all(times, points, enqueued);
        }
        check_cuda(status, "FixationMap.add");
    }

    void read_into(py::handle out, py::handle t_ns, py::handle stream) {
        const std::int64_t time = time_argument(t_ns, "t_ns");
        OneDevice device = device_;
        const OutArgument images = out_images(out, 0, device, {&sum_});
        if (!images.single || images.images.height != height_ || images.images.width != width_) {
            throw py::value_error("out must have the map's shape (" + std::to_string(height_) + ", " +
                                  std::to_string(width_) + ")");
        }
        const cudaStream_t enqueued = stream_argument(stream);
        const Current current(device.index());
        const std::lock_guard<std::mutex> lock(mutex_);
        double scale;
        if (!clock_.scale_at(time, scale)) {
            throw py::value_error("t_ns is before the newest sample: what came later cannot be taken back");
        }
        check_cuda(cuda::fixation_read(data(), scale, images.images, enqueued), "FixationMap.read");
    }

    void reset(py::handle stream) {
        const cudaStream_t enqueued = stream_argument(stream);
        const Current current(device_.index());
        const std::lock_guard<std::mutex> lock(mutex_);
        const std::size_t bytes = sizeof(double) * static_cast<std::size_t>(height_) * static_cast<std::size_t>(width_);
        check_cuda(cudaMemsetAsync(data(), 0, bytes, enqueued), "FixationMap.reset");
        clock_.reset();
    }

  private:
    cudaError_t add_all(const TimeColumn& times, const Points& points, cudaStream_t stream) {
        FadingSample samples[kFadingChunk];
        for (std::ptrdiff_t first = 0; first < points.count; first += kFadingChunk) {
            const int kept = take_samples(times, points, first, samples, kFadingChunk);
            if (kept == 0) continue;
            const FadingStep step = clock_.take(samples, kept);
            const cudaError_t status = cuda::fixation_sum(samples, kept, sigma_, step, data(), height_, width_, stream);
            if (status != cudaSuccess) return status;
        }
        return cudaSuccess;
    }

    double* data() const { return reinterpret_cast<double*>(sum_.address); }

    std::mutex mutex_;
    OneDevice device_;
    Strided sum_;
    double sigma_;
    FadingClock clock_;
    std::int32_t height_ = 0;
    std::int32_t width_ = 0;
};

}  // namespace

void register_cuda_kernels(py::module_& module) {
    module.def("fixation_map_into", &fixation_map_into, py::arg("out"), py::arg("xy"), py::arg("weight"),
               py::arg("sigma"), py::kw_only(), py::arg("stream"));
    module.def("fuse_gaze_frame_into", &fuse_gaze_frame_into, py::arg("out"), py::arg("frame"), py::arg("fixation_map"),
               py::arg("mean"), py::arg("std"), py::kw_only(), py::arg("color"), py::arg("stream"));
    module.def("crop_normalize_into", &crop_normalize_into, py::arg("out"), py::arg("frame"), py::arg("affine"),
               py::arg("mean"), py::arg("std"), py::kw_only(), py::arg("color"), py::arg("stream"));
    module.def("assemble_tokens_into", &assemble_tokens_into, py::arg("out"), py::arg("mask"), py::arg("tokens"),
               py::arg("index"), py::kw_only(), py::arg("stream"));
    py::class_<CudaFixationStream>(module, "FixationStream")
        .def(py::init<py::handle, double, double, py::handle>(), py::arg("sum"), py::arg("sigma"),
             py::arg("half_life_s"), py::kw_only(), py::arg("stream"))
        .def("add", &CudaFixationStream::add, py::arg("t_ns"), py::arg("x"), py::arg("y"), py::arg("weight"),
             py::kw_only(), py::arg("stream"))
        .def("read_into", &CudaFixationStream::read_into, py::arg("out"), py::arg("t_ns"), py::kw_only(),
             py::arg("stream"))
        .def("reset", &CudaFixationStream::reset, py::kw_only(), py::arg("stream"));
}

}  // namespace emert::python

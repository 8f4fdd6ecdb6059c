#include <mutex>

#include "eye/event_stream.hpp"
#include "python/bindings.hpp"
#include "python/gaze_columns.hpp"

namespace emert::python {

namespace {

/// A stream that several threads may push to; the events of what they pushed are taken under the same lock.
struct LockedStream {
    EventStream stream;
    std::mutex mutex;

    LockedStream(const Viewing& viewing, const EventSettings& settings) : stream(viewing, settings) {}
};

template <typename Event>
py::tuple table(const std::vector<Event>& events, std::initializer_list<double Event::*> values) {
    const auto rows = static_cast<py::ssize_t>(events.size());
    py::array_t<std::int64_t> times({rows, py::ssize_t{2}});
    py::array_t<double> columns({rows, static_cast<py::ssize_t>(values.size())});
    std::int64_t* time = times.mutable_data();
    double* cell = columns.mutable_data();
    for (const Event& event : events) {
        *time++ = event.start_ns;
        *time++ = event.stop_ns;
        for (const auto value : values) *cell++ = event.*value;
    }
    return py::make_tuple(times, columns);
}

py::tuple take(LockedStream& locked) {
    FoundEvents found;
    {
        const py::gil_scoped_release released;
        const std::lock_guard<std::mutex> guard(locked.mutex);
        found = locked.stream.take();
    }
    using F = FoundFixation;
    using S = FoundSaccade;
    py::list blinks;
    for (const FoundBlink& blink : found.blinks) {
        blinks.append(py::make_tuple(blink.start_ns, blink.stop_ns, blink.by_openness));
    }
    return py::make_tuple(table<F>(found.fixations, {&F::x, &F::y, &F::dispersion_deg}),
                          table<S>(found.saccades, {&S::amplitude_deg, &S::peak_velocity_deg_s, &S::start_x,
                                                    &S::start_y, &S::end_x, &S::end_y}),
                          blinks);
}

void push(LockedStream& locked, py::handle t_ns, const py::sequence& arrays) {
    const GazeColumnsArgument samples(t_ns, arrays);
    const GazeColumns columns = samples.columns();
    const py::gil_scoped_release released;
    const std::lock_guard<std::mutex> guard(locked.mutex);
    locked.stream.push(columns);
}

void finish(LockedStream& locked) {
    const py::gil_scoped_release released;
    const std::lock_guard<std::mutex> guard(locked.mutex);
    locked.stream.finish();
}

std::int64_t late(LockedStream& locked) {
    const py::gil_scoped_release released;
    const std::lock_guard<std::mutex> guard(locked.mutex);
    return locked.stream.late();
}

std::unique_ptr<LockedStream> make(double width_mm, double height_mm, double distance_mm, bool by_dispersion,
                                   double velocity_deg_s, double window_ms, double gap_ms, double merge_ms,
                                   double merge_deg, double min_fixation_ms, double dispersion_deg) {
    return std::make_unique<LockedStream>(Viewing{width_mm, height_mm, distance_mm},
                                          EventSettings{by_dispersion, velocity_deg_s, window_ms, gap_ms, merge_ms,
                                                        merge_deg, min_fixation_ms, dispersion_deg});
}

}  // namespace

void register_event_stream(py::module_& module) {
    py::class_<LockedStream>(module, "EventStream")
        .def(py::init(&make), py::kw_only(), py::arg("width_mm"), py::arg("height_mm"), py::arg("distance_mm"),
             py::arg("by_dispersion"), py::arg("velocity_deg_s"), py::arg("window_ms"), py::arg("gap_ms"),
             py::arg("merge_ms"), py::arg("merge_deg"), py::arg("min_fixation_ms"), py::arg("dispersion_deg"))
        .def("push", &push, py::arg("t_ns"), py::arg("arrays"))
        .def("finish", &finish)
        .def("take", &take)
        .def_property_readonly("late", &late);
}

}  // namespace emert::python

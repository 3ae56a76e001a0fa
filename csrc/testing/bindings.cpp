// The Python module of the SIMT layer: its own samples and counters, and every bind_<op>.cpp.
#include "bindings.h"

#include "runtime.h"
#include "samples.h"

namespace egformer {
namespace {

py::dict counters() {
  py::dict all;
  for (const auto& [name, c] : simt::counters()) {
    py::dict one;
    one["launches"] = c.launches;
    one["blocks"] = c.blocks;
    one["barriers"] = c.barriers;
    one["collectives"] = c.collectives;
    one["matrix_products"] = c.matrix_products;
    one["shared_bytes"] = c.shared_bytes;
    one["loads"] = c.loads;
    one["load_sectors"] = c.load_sectors;
    one["stores"] = c.stores;
    one["store_sectors"] = c.store_sectors;
    one["shared_requests"] = c.shared_requests;
    one["bank_conflicts"] = c.bank_conflicts;
    all[name.c_str()] = one;
  }
  return all;
}

void bind_samples(py::module_& m) {
  m.def("sum", [](const py::array& x, const py::array& out, int threads) {
    sum(data<float>(x), data<float>(out), x.size(), static_cast<int>(out.size()), threads);
  });
  m.def("product", [](const py::array& a, const py::array& b, const py::array& c) {
    with_type(a, [&](auto type) {
      using T = decltype(type);
      if constexpr (sizeof(T) == 2) {
        product(data<T>(a), data<T>(b), data<float>(c), static_cast<int>(c.shape(0)), static_cast<int>(c.shape(1)),
                static_cast<int>(a.shape(1)));
      }
    });
  });
  m.def("transpose", [](const py::array& x, const py::array& out) { transpose(data<__half>(x), data<__half>(out)); });
  m.def("collectives", [](const py::array& x, const py::array& out) { collectives(data<int>(x), data<int>(out)); });
  m.def("faulty", [](const std::string& name, const py::array& x, const py::array& out) {
    faulty_kernels().at(name)(data<float>(x), data<float>(out), x.size());
  });
  m.def("faulty_names", [] {
    std::vector<std::string> names;
    for (const auto& [name, run] : faulty_kernels()) names.push_back(name);
    return names;
  });
}

}  // namespace
}  // namespace egformer

PYBIND11_MODULE(EGFORMER_MODULE, m) {
  m.def("counters", egformer::counters, "what each kernel has done since reset, by its name");
  m.def(
      "reset",
      [](bool count_memory) {
        simt::counters().clear();
        simt::count_memory = count_memory;
      },
      pybind11::arg("count_memory") = false);
  egformer::bind_samples(m);
  for (const auto bind : egformer::Binding::all()) bind(m);
}

#include "engine/repacked_check.h"

#include <algorithm>
#include <string>

#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// What is different here, as far as versions and processors tell.
std::string difference(const RepackedExperts& repacked, const Backend& backend,
                       const RepackedLayout* layout) {
  if (layout == nullptr) {
    return odmoe::format("ggml {} has no such layout on a processor with {}", ggml_build(),
                         backend.features());
  }
  if (repacked.layout != layout->name()) return odmoe::format("this ggml has {}", layout->name());
  std::string text;
  if (repacked.ggml != layout->ggml())
    text = odmoe::format("it was ggml {}, this is {}", printable(repacked.ggml), layout->ggml());
  if (repacked.processor != layout->processor()) {
    text += odmoe::format("{}its processor had {}, this has {}", text.empty() ? "" : "; ",
                          printable(repacked.processor, 1000), layout->processor());
  }
  return text.empty() ? "version and processor are said to be the same, so model.json is damaged" : text;
}

}  // namespace

Result<std::unique_ptr<RepackedLayout>> layout_of_repacked(const Checkpoint& file, const Backend& backend) {
  const RepackedExperts* repacked = file.repacked();
  if (repacked == nullptr) return nullptr;
  auto layout = RepackedLayout::create(backend);
  const bool same = layout != nullptr && repacked->layout == layout->name() &&
                    std::ranges::all_of(repacked->matrices, [&](const RepackedExperts::Matrix& m) {
                      return layout->takes(m.type, m.n_in, m.n_out) &&
                             layout->fingerprint(m.type, m.n_in, m.n_out) == m.fingerprint;
                    });
  if (same) return layout;
  return fail(
      ErrorKind::kUnsupported,
      "{}: its experts are repacked ({}) for another ggml or processor ({}); convert the model that it "
      "was made from again, on this machine or without --repack",
      file.path().string(), printable(repacked->layout), difference(*repacked, backend, layout.get()));
}

}  // namespace odmoe

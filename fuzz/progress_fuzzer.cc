// Any bytes as what a batch goes on from: behind a line "--" what OUT.progress has, each line with the
// checksum that it would have, and before it OUT, in which "@N" at the beginning of a line stands for how the
// answer to request N begins.
//
//   progress_fuzzer -max_total_time=60 -rss_limit_mb=2048 NEW fuzz/corpus/progress
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "gguf_exercise.h"
#include "odmoe/format.h"
#include "server/batch/batch_input.h"
#include "server/batch/batch_output.h"
#include "server/batch/line_file.h"
#include "temp_dir.h"

namespace {

using namespace odmoe;
using namespace odmoe::server;
using testing::must;

constexpr size_t kRequests = 4;
constexpr std::string_view kIdentity = "fuzz";

// Where the files are, and what is asked.
struct Batch {
  testing::TempDir dir;
  std::filesystem::path out = dir / "out", progress = dir / "out.progress";
  BatchInput input;
  std::string first_line;  // of OUT.progress
  Batch() : input(make_input(dir)) {
    (void)BatchOutput::open(out, input, kIdentity, 7).value();
    first_line = read(progress);
  }

  static BatchInput make_input(const testing::TempDir& dir) {
    std::string text;
    for (size_t i = 0; i < kRequests; ++i) {
      text += odmoe::format(
          R"({{"custom_id":"r{}","method":"POST","url":"/v1/completions","body":{{"prompt":"x"}}}})", i);
      text += '\n';
    }
    return BatchInput::open(dir.write("in", text)).value();
  }
  static std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void write(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  std::string beginning(size_t place) const { return batch_line_beginning(input.id(place).value()); }
};

// "@N..." -> how the answer to request N begins.
std::string filled_in(const Batch& batch, std::string_view line) {
  const bool names = line.size() >= 2 && line[0] == '@' && line[1] >= '0' && line[1] < '0' + char{kRequests};
  return names ? batch.beginning(static_cast<size_t>(line[1] - '0')) + std::string(line.substr(2))
               : std::string(line);
}

struct Far {
  size_t done = 0, failed = 0;
  uint64_t bytes = 0;
  bool operator==(const Far&) const = default;
};

Far far(const BatchOutput& output) {
  return {.done = output.n_done(), .failed = output.n_failed(), .bytes = output.bytes()};
}

std::optional<Far> look(const Result<BatchOutput>& output) {
  testing::exercise_result(output);
  if (!output.has_value()) return std::nullopt;
  size_t n = 0;
  must(output
           ->each_answer([&](std::string_view line) -> Status {
             must(!line.contains('\n'), "an answer is a line");
             ++n;
             return {};
           })
           .has_value(),
       "answers that are there can be read");
  must(n == output->n_done(), "each answer once");
  must(output->n_failed() <= n, "no more fail than there are");
  return far(*output);
}

void go_on(const Batch& batch, const std::string& out, const std::string& progress, bool is_ours) {
  Batch::write(batch.out, out);
  Batch::write(batch.progress, progress);
  testing::exercise_result(batch_state(batch.out, batch.input));
  const auto without_input = look(BatchOutput::open_without_input(batch.out, 7));
  must(!is_ours || without_input, "damage is no error");
  if (without_input) {
    must(look(BatchOutput::open_without_input(batch.out, 7)) == without_input, "looking changes nothing");
  }
  Batch::write(batch.out, out);
  Batch::write(batch.progress, progress);
  const auto there = look(BatchOutput::open(batch.out, batch.input, kIdentity, 7));
  must(!is_ours || there, "damage is no error");
  if (!there) return;
  must(there->done <= kRequests, "answers are of requests");
  auto output = BatchOutput::open(batch.out, batch.input, kIdentity, 7);
  must(output.has_value() && far(*output) == *there, "it stays as it is");
  for (size_t place = 0; place < kRequests; ++place) {
    if (output->is_done(place)) continue;
    must(output->put(place, batch.beginning(place) + "\"x\":1}").has_value(), "what is missing is taken");
  }
  must(output->finish().has_value(), "then it is complete");
  const std::string text = Batch::read(batch.out);
  must(std::ranges::count(text, '\n') == std::ptrdiff_t{kRequests} && text.ends_with('\n'), "a line each");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Batch batch;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string out, progress;
  for (bool ahead = false; !text.empty();) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const std::string_view line_end = end < text.size() ? "\n" : "";
    text.remove_prefix(end + line_end.size());
    if (!ahead && line == "--") {
      ahead = true;
    } else if (!ahead) {
      out += filled_in(batch, line);
      out += line_end;
    } else if (const size_t place = line.find(' '); place != std::string_view::npos) {
      progress +=
          checked_line(std::string(line.substr(0, place + 1)) + filled_in(batch, line.substr(place + 1)));
    } else {
      progress += checked_line(line);
    }
  }
  go_on(batch, out, batch.first_line + progress, /*is_ours=*/true);
  go_on(batch, out, std::string(reinterpret_cast<const char*>(data), size), /*is_ours=*/false);
  return 0;
}

#include "convert/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include "base/checksum.h"
#include "convert/hf_source.h"
#include "convert/journal.h"
#include "convert/verify.h"
#include "format/expert_directory.h"
#include "format/gguf_file.h"
#include "format/safetensors.h"
#include "odmoe/format.h"
#include "small_model.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Every file below a directory with its content.
std::map<std::string, std::string> tree(const fs::path& root) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), root).generic_string()] = read_text(entry.path());
  }
  return files;
}

std::unique_ptr<TensorSource> open_source(const fs::path& path) {
  auto checkpoint = open_checkpoint(path);
  EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  auto source = make_checkpoint_source(std::move(checkpoint.value()));
  EXPECT_TRUE(source.has_value()) << source.error().message;
  return std::move(source.value());
}

class Convert : public ::testing::Test {
 protected:
  fs::path write_model(const testing::SmallModelOptions& options = {}, const char* name = "model.gguf") {
    const fs::path path = folder_ / name;
    testing::small_model(options).write(path);
    return path;
  }

  Result<ConvertResult> run(const fs::path& in, const fs::path& out, const LayoutOptions& layout = {},
                            const ConvertOptions& options = {}) {
    const auto source = open_source(in);
    const auto plan = plan_conversion(*source, layout);
    EXPECT_TRUE(plan.has_value()) << plan.error().message;
    return convert(*source, *plan, out, options);
  }

  // The bytes of every expert of a checkpoint, projection by projection.
  static std::vector<std::string> experts_of(const fs::path& path) {
    const auto source = open_source(path);
    std::vector<std::string> bytes;
    for (const std::string part : {"gate", "up", "gate_up", "down"}) {
      for (size_t i = 0; i < source->tensors().size(); ++i) {
        const auto& tensor = source->tensors()[i];
        if (!tensor.name.ends_with(".ffn_" + part + "_exps.weight")) continue;
        const uint64_t expert_bytes = tensor.bytes() / static_cast<uint64_t>(tensor.ne[2]);
        for (uint64_t expert = 0; expert < static_cast<uint64_t>(tensor.ne[2]); ++expert) {
          std::string text(expert_bytes, '\0');
          const Status status =
              source->read(i, expert * expert_bytes, std::as_writable_bytes(std::span(text)));
          EXPECT_TRUE(status.has_value()) << status.error().message;
          bytes.push_back(text);
        }
      }
    }
    return bytes;
  }

  testing::TempDir folder_;
};

constexpr LayoutOptions kPacked{.layout = ExpertManifest::Layout::kPacked};
constexpr auto kFiles = [] {
  LayoutOptions options;
  options.layout = ExpertManifest::Layout::kFiles;
  return options;
};

TEST_F(Convert, KeepsEveryByteInEitherLayout) {
  for (const bool merged : {false, true}) {
    for (const ggml_type type : {GGML_TYPE_Q8_0, GGML_TYPE_F16, GGML_TYPE_F32}) {
      const fs::path model =
          write_model({.expert_type = type, .merge_gate_up = merged}, merged ? "merged.gguf" : "model.gguf");
      const auto original = GgufFile::open(model).value();
      int n = 0;
      for (const LayoutOptions& layout : {kPacked, kFiles()}) {
        const fs::path out = folder_ / odmoe::format("out{}{}{}", merged, static_cast<int>(type), n++);
        const auto result = run(model, out, layout);
        ASSERT_TRUE(result.has_value()) << result.error().message;
        const auto directory = ExpertDirectory::open(out);
        ASSERT_TRUE(directory.has_value()) << directory.error().message;
        EXPECT_EQ(experts_of(out), experts_of(model));
        for (const TensorInfo& tensor : original->tensors()) {
          const TensorInfo* copy = (*directory)->find_tensor(tensor.name);
          ASSERT_NE(copy, nullptr) << tensor.name;
          EXPECT_EQ(copy->type, tensor.type) << tensor.name;
          EXPECT_EQ(copy->ne, tensor.ne) << tensor.name;
          EXPECT_EQ(copy->bytes, tensor.bytes) << tensor.name;
        }
        EXPECT_EQ((*directory)->tensors().size(), original->tensors().size());
        EXPECT_FALSE(fs::exists(partial_path(out)));
      }
    }
  }
}

TEST_F(Convert, KeepsEveryKeyWithItsTypeAndValue) {
  const fs::path model = write_model();
  ASSERT_TRUE(run(model, folder_ / "out").has_value());
  const auto before = GgufFile::open(model).value()->entries();
  const auto directory = ExpertDirectory::open(folder_ / "out").value();
  std::map<std::string, MetadataEntry> after;
  for (const MetadataEntry& entry : directory->entries()) after[entry.key] = entry;
  EXPECT_EQ(after.size(), before.size());
  for (const MetadataEntry& entry : before) EXPECT_EQ(after[entry.key], entry) << entry.key;
}

TEST_F(Convert, PutsRecordsOnPagesInOneContiguousRead) {
  const fs::path model = write_model();
  for (const uint32_t page_bytes : {4096U, 16384U}) {
    LayoutOptions layout = kPacked;
    layout.page_bytes = page_bytes;
    const fs::path out = folder_ / odmoe::format("out{}", page_bytes);
    ASSERT_TRUE(run(model, out, layout).has_value());
    const auto source = ExpertDirectory::open(out).value()->expert_source(3, 4, 2).value();
    for (int layer = 1; layer < 3; ++layer) {
      ASSERT_THAT(source->layout(layer).slices, SizeIs(1));
      for (int expert = 0; expert < 4; ++expert)
        EXPECT_EQ(source->locate({layer, expert}, 0).offset % page_bytes, 0U);
    }
  }
}

TEST_F(Convert, GivesBothPartsOfARecordTheirChecksumsAndDownAPage) {
  for (const bool merged : {false, true}) {
    const fs::path model = write_model({.merge_gate_up = merged}, merged ? "merged.gguf" : "model.gguf");
    for (const LayoutOptions& layout : {kPacked, kFiles()}) {
      const fs::path out = folder_ / odmoe::format("{}{}", layout_name(layout.layout), merged);
      ASSERT_TRUE(run(model, out, layout).has_value());
      const auto source = ExpertDirectory::open(out).value()->expert_source(3, 4, 2).value();
      const RecordLayout& record = source->layout(1);
      EXPECT_EQ(record.down.offset % layout.page_bytes, 0U);
      EXPECT_EQ(record.gate_up_bytes(), record.down.offset);
      const SliceLocation at = source->locate({1, 2}, 0);
      const std::string file = read_text(source->files()[static_cast<size_t>(at.file)]);
      const auto bytes = std::as_bytes(std::span(file)).subspan(at.offset, record.bytes());
      const std::optional<RecordChecksums> got = source->checksums({1, 2});
      ASSERT_TRUE(got.has_value());
      EXPECT_EQ(got->gate_up, Checksum::of(bytes.first(record.down.offset)));
      EXPECT_EQ(got->down, Checksum::of(bytes.subspan(record.down.offset)));
    }
  }
}

TEST_F(Convert, IsASafetensorsFileInEveryFile) {
  const fs::path model = write_model();
  for (const LayoutOptions& layout : {kPacked, kFiles()}) {
    const fs::path out = folder_ / std::string(layout_name(layout.layout));
    ASSERT_TRUE(run(model, out, layout).has_value());
    int n_expert_tensor = 0;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
      if (!entry.is_regular_file() || entry.path().extension() == ".json") continue;
      const auto file = SafetensorsFile::open(entry.path());
      ASSERT_TRUE(file.has_value()) << file.error().message;
      for (const SafetensorsTensor& tensor : file->tensors()) {
        n_expert_tensor +=
            tensor.name.find("_exps.") != std::string::npos && !tensor.name.starts_with("padding");
      }
    }
    EXPECT_EQ(n_expert_tensor, 2 * 4 * 3);
  }
}

TEST_F(Convert, IsReadByThePythonPackage) {
  if (std::system("python3 -c 'import safetensors, numpy' 2>/dev/null") != 0) {
    GTEST_SKIP() << "install python3-safetensors to run this";
  }
  const fs::path model = write_model();
  for (const LayoutOptions& layout : {kPacked, kFiles()}) {
    const fs::path out = folder_ / std::string(layout_name(layout.layout));
    ASSERT_TRUE(run(model, out, layout).has_value());
    const fs::path answer = folder_ / "answer";
    const std::string command = "python3 " ODMOE_SOURCE_DIR "/tests/tools/read_expert_directory.py '" +
                                out.string() + "' > '" + answer.string() + "'";
    ASSERT_EQ(std::system(command.c_str()), 0);  // NOLINT(cert-env33-c): a command of the test's own
    const size_t n_dense = GgufFile::open(model).value()->tensors().size() - 2 * 3;
    EXPECT_EQ(read_text(answer), odmoe::format("{} {}\n", 2 * 4 * 3, n_dense));
  }
}

TEST_F(Convert, IsTheSameWhenADirectoryIsConvertedAgain) {
  const fs::path model = write_model();
  ASSERT_TRUE(run(model, folder_ / "packed").has_value());
  ASSERT_TRUE(run(folder_ / "packed", folder_ / "files", kFiles()).has_value());
  ASSERT_TRUE(run(folder_ / "files", folder_ / "packed2").has_value());
  auto first = tree(folder_ / "packed"), second = tree(folder_ / "packed2");
  first.erase("model.json");  // names the sources
  second.erase("model.json");
  EXPECT_TRUE(first == second);
}

// Stops a conversion once it has written some files.
void interrupt_after(ConvertOptions& options, int n) {
  options.progress = [n](const ConvertProgress& progress) mutable {
    return progress.phase == ConvertProgress::Phase::kChecking || --n > 0;
  };
}

class ConvertRepacked : public Convert {
 protected:
  void SetUp() override {
    if (layout_ == nullptr || !layout_->takes(GGML_TYPE_Q4_0, 64, 64))
      GTEST_SKIP() << "this ggml has no layout of Q4_0 for wider kernels on this processor";
  }
  LayoutOptions repacking() const { return {.repack = layout_.get()}; }
  fs::path write_repackable(bool merged = false) {
    return write_model({.n_embd = 64, .n_ff_exp = 64, .expert_type = GGML_TYPE_Q4_0, .merge_gate_up = merged},
                       merged ? "merged.gguf" : "model.gguf");
  }

  std::unique_ptr<Backend> backend_ = Backend::create(1).value();
  std::unique_ptr<RepackedLayout> layout_ = RepackedLayout::create(*backend_);
};

TEST_F(ConvertRepacked, LaysOutEachMatrixByItselfWhereItWouldLieOtherwise) {
  for (const bool merged : {false, true}) {
    const fs::path model = write_repackable(merged);
    const fs::path plain = folder_ / odmoe::format("plain{}", merged);
    const fs::path out = folder_ / odmoe::format("out{}", merged);
    ASSERT_TRUE(run(model, plain).has_value());
    ASSERT_TRUE(run(model, out, repacking()).has_value());
    const auto directory = ExpertDirectory::open(out).value();
    ASSERT_NE(directory->repacked(), nullptr);
    EXPECT_EQ(directory->repacked()->layout, layout_->name());
    EXPECT_EQ(directory->repacked()->matrices.size(), 1U);
    const auto a = ExpertDirectory::open(plain).value()->expert_source(3, 4, 2).value();
    const auto b = directory->expert_source(3, 4, 2).value();
    for (const int layer : {1, 2}) {
      for (int32_t expert = 0; expert < 4; ++expert) {
        const RecordLayout& record = a->layout(layer);
        for (const RecordLayout::Projection& part : {record.gate, record.up, record.down}) {
          const auto bytes = [&](const ExpertSource& source) {
            const SliceLocation at = source.locate({layer, expert}, 0);
            return read_text(source.files()[static_cast<size_t>(at.file)])
                .substr(at.offset + part.offset, part.bytes);
          };
          const std::string before = bytes(*a), after = bytes(*b);
          std::string wanted(part.bytes, '\0');
          layout_->repack(GGML_TYPE_Q4_0, 64, 64, std::as_bytes(std::span(before)),
                          std::as_writable_bytes(std::span(wanted)));
          EXPECT_EQ(after, wanted);
          EXPECT_NE(after, before);
        }
      }
    }
    EXPECT_THAT(check_files(files_to_check(directory->manifest(), out), {}).value(), IsEmpty());
  }
}

TEST_F(ConvertRepacked, LeavesWhatTheLayoutDoesNotTakeAsItIs) {
  const fs::path model = write_model({.expert_type = GGML_TYPE_F16});
  ASSERT_TRUE(run(model, folder_ / "plain").has_value());
  ASSERT_TRUE(run(model, folder_ / "out", repacking()).has_value());
  EXPECT_TRUE(tree(folder_ / "out") == tree(folder_ / "plain"));
}

TEST_F(ConvertRepacked, SaysInEveryHeaderWhatIsNotAsGgmlHasItInFiles) {
  ASSERT_TRUE(run(write_repackable(), folder_ / "out", repacking()).has_value());
  const auto file = SafetensorsFile::open(folder_ / "out/experts/layer_01.experts").value();
  EXPECT_EQ(file.metadata().at("ggml:blk.1.ffn_up_exps.2.weight"), "q4_0 64 64 " + layout_->name());
}

TEST_F(ConvertRepacked, IsMadeFromADirectoryAndGoesOnWhereItWasInterrupted) {
  const fs::path model = write_repackable();
  ASSERT_TRUE(run(model, folder_ / "whole", repacking()).has_value());
  ASSERT_TRUE(run(model, folder_ / "plain", kFiles()).has_value());
  ConvertOptions stopped;
  interrupt_after(stopped, 4);
  ASSERT_FALSE(run(folder_ / "plain", folder_ / "out", repacking(), stopped).has_value());
  EXPECT_GT(run(folder_ / "plain", folder_ / "out", repacking()).value().kept_bytes, 0U);
  auto got = tree(folder_ / "out"), wanted = tree(folder_ / "whole");
  got.erase("model.json");  // names the sources
  wanted.erase("model.json");
  EXPECT_TRUE(got == wanted);
}

TEST_F(ConvertRepacked, IsNotTakenForAModelToConvert) {
  ASSERT_TRUE(run(write_repackable(), folder_ / "out", repacking()).has_value());
  const auto source = make_checkpoint_source(open_checkpoint(folder_ / "out").value());
  ASSERT_FALSE(source.has_value());
  EXPECT_EQ(source.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(source.error().message, HasSubstr("convert what it was made from"));
}

TEST_F(Convert, RefusesToOverwriteAnything) {
  const fs::path model = write_model();
  const fs::path out = folder_ / "out";
  fs::create_directory(out);
  const auto result = run(model, out);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(result.error().message, HasSubstr("nothing is overwritten"));
  EXPECT_THAT(tree(out), IsEmpty());
}

TEST_F(Convert, GoesOnWhereItWasInterruptedAndMakesTheSameBytes) {
  const fs::path model = write_model();
  for (const LayoutOptions& layout : {kPacked, kFiles()}) {
    const std::string name(layout_name(layout.layout));
    ASSERT_TRUE(run(model, folder_ / (name + "-whole"), layout).has_value());
    const auto whole = tree(folder_ / (name + "-whole"));
    const fs::path out = folder_ / name;
    uint64_t kept = 0;
    // Stopped again and again, each time after a little more.
    int attempts = 0;
    for (bool done = false; !done; ++attempts) {
      ASSERT_LT(attempts, 200);
      int calls = 0;
      ConvertOptions options;
      options.progress = [&](const ConvertProgress& progress) {
        return progress.phase == ConvertProgress::Phase::kChecking || ++calls < 3;
      };
      const auto result = run(model, out, layout, options);
      done = result.has_value();
      if (done) {
        kept = result->kept_bytes;
      } else {
        EXPECT_EQ(result.error().kind, ErrorKind::kInterrupted);
        EXPECT_FALSE(fs::exists(out));
      }
    }
    EXPECT_GT(attempts, 1);
    EXPECT_GT(kept, 0U);
    EXPECT_TRUE(tree(out) == whole);
  }
}

TEST_F(Convert, DoesNotTrustWhatChangedSinceItWasInterrupted) {
  const fs::path model = write_model();
  ASSERT_TRUE(run(model, folder_ / "whole").has_value());
  ConvertOptions stopped;
  interrupt_after(stopped, 4);
  const fs::path out = folder_ / "out";
  ASSERT_FALSE(run(model, out, {}, stopped).has_value());
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(partial_path(out) / "tree")) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  ASSERT_GE(files.size(), 2U);
  for (const fs::path& path : files) {  // a bit of each, near the end
    std::string text = read_text(path);
    text[text.size() - 1 - text.size() / 8] ^= 1;
    std::ofstream(path, std::ios::binary) << text;
  }
  std::ofstream(partial_path(out) / "tree" / "stray") << "left by someone";
  const auto result = run(model, out);
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_TRUE(tree(out) == tree(folder_ / "whole"));
}

TEST_F(Convert, BeginsAfreshWhenSomethingElseIsAskedFor) {
  const fs::path model = write_model();
  ConvertOptions stopped;
  interrupt_after(stopped, 5);
  ASSERT_FALSE(run(model, folder_ / "out", kFiles(), stopped).has_value());
  ASSERT_TRUE(run(model, folder_ / "out", kPacked).has_value());
  ASSERT_TRUE(run(model, folder_ / "whole", kPacked).has_value());
  EXPECT_TRUE(tree(folder_ / "out") == tree(folder_ / "whole"));
}

TEST_F(Convert, BeginsAfreshWhenAnyFileOfACheckpointChanged) {
  const fs::path in = folder_ / "checkpoint";
  fs::copy(ODMOE_SOURCE_DIR "/tests/data/hf/qwen3moe", in);
  const auto attempt = [&](const fs::path& out, const ConvertOptions& options) {
    const auto source = HfSource::open(in, {}).value();
    return convert(*source, plan_conversion(*source, kFiles()).value(), out, options);
  };
  const auto stop = [&](const fs::path& out) {
    ConvertOptions stopped;
    interrupt_after(stopped, 8);
    EXPECT_FALSE(attempt(out, stopped).has_value());
  };
  stop(folder_ / "same");
  EXPECT_GT(attempt(folder_ / "same", {}).value().kept_bytes, 0U);
  for (const char* const name : {"config.json", "tokenizer.json"}) {
    const fs::path out = folder_ / (std::string("without-") + name);
    stop(out);
    std::ofstream(in / name, std::ios::app) << "\n";  // says nothing else, but who knows
    EXPECT_EQ(attempt(out, {}).value().kept_bytes, 0U) << name;
  }
}

TEST_F(Convert, BeginsAfreshFromAModelWithOtherBytesOfTheSameSizeAndTime) {
  const fs::path model = write_model();
  const auto modified = fs::last_write_time(model);
  ConvertOptions stopped;
  interrupt_after(stopped, 5);
  ASSERT_FALSE(run(model, folder_ / "out", kFiles(), stopped).has_value());
  std::string bytes = read_text(model);
  bytes[bytes.size() - 4] ^= 1;  // of the last tensor
  const fs::path other = folder_ / "other.gguf";
  std::ofstream(other, std::ios::binary) << bytes;
  fs::rename(other, model);
  fs::last_write_time(model, modified);
  const auto result = run(model, folder_ / "out", kFiles());
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(result->kept_bytes, 0U);
}

TEST_F(Convert, IsNotDoneByTwoAtOnce) {
  const fs::path model = write_model();
  const fs::path out = folder_ / "out";
  fs::create_directories(partial_path(out));
  const auto other = OutputFile::append_locked(partial_path(out) / "lock");
  ASSERT_TRUE(other.has_value());
  const auto result = run(model, out);
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, HasSubstr("in use by another process"));
}

TEST_F(Convert, SaysWhichTensorCannotBeRead) {
  const fs::path model = write_model();
  const auto source = open_source(model);
  const auto plan = plan_conversion(*source, {}).value();
  fs::resize_file(model, fs::file_size(model) / 2);
  const auto result = convert(*source, plan, folder_ / "out", {});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(result.error().message, HasSubstr(model.string()));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(Convert, BoundsItsMemoryByTheWrite) {
  const fs::path model = write_model();
  const auto source = open_source(model);
  const auto plan = plan_conversion(*source, {}).value();
  uint64_t bytes = 0;
  for (const PlannedWrite& write : plan.writes) {
    EXPECT_LE(write.bytes, kWriteBytes);
    bytes += write.bytes;
  }
  EXPECT_EQ(bytes, plan.total_bytes);
  EXPECT_LE(plan.buffer_bytes * kConvertBuffers, 64U << 20U);
}

class Verify : public Convert {
 protected:
  std::vector<Damage> damages(const fs::path& directory) {
    const auto opened = ExpertDirectory::open(directory).value();
    return check_files(files_to_check(opened->manifest(), directory), {}).value();
  }
};

TEST_F(Verify, NamesEveryDamagedPartAndFile) {
  for (const LayoutOptions& layout : {kPacked, kFiles()}) {
    // Once with gate and up merged: they are one section either way.
    const fs::path model = write_model({.merge_gate_up = layout.layout == ExpertManifest::Layout::kFiles});
    const fs::path out = folder_ / std::string(layout_name(layout.layout));
    ASSERT_TRUE(run(model, out, layout).has_value());
    EXPECT_THAT(damages(out), IsEmpty());
    const auto source = ExpertDirectory::open(out).value()->expert_source(3, 4, 2).value();
    const auto damage = [&](ExpertKey key, const RecordLayout::Projection& part) {
      const SliceLocation at = source->locate(key, part.slice);
      std::fstream file(source->files()[static_cast<size_t>(at.file)],
                        std::ios::binary | std::ios::in | std::ios::out);
      const auto place = static_cast<std::streamoff>(at.offset + part.offset + 100);
      file.seekg(place);
      const int byte = file.get();
      file.seekp(place);
      file.put(static_cast<char>(byte ^ 1));
    };
    damage({1, 3}, source->layout(1).gate);
    damage({2, 1}, source->layout(2).up);
    damage({2, 1}, source->layout(2).down);
    {
      std::fstream file(out / "base_model/norms.safetensors",
                        std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(-3, std::ios::end);
      file.put('!');
    }
    const std::vector<Damage> found = damages(out);
    ASSERT_THAT(found, SizeIs(4));
    EXPECT_THAT(found[0].what, HasSubstr("norms.safetensors"));
    EXPECT_THAT(found[1].what, HasSubstr("the gate and up section of expert 3 of layer 1 is damaged"));
    EXPECT_THAT(found[2].what, HasSubstr("the gate and up section of expert 1 of layer 2 is damaged"));
    EXPECT_THAT(found[3].what, HasSubstr("the down section of expert 1 of layer 2 is damaged"));
  }
}

TEST(JournalFile, ForgetsALineThatWasCutShort) {
  const testing::TempDir folder;
  const fs::path path = folder / "journal";
  {
    Journal journal = Journal::create(path, "this", {}).value();
    ASSERT_TRUE(journal.add("a", {.bytes = 1, .checksums = {1, 2}}).has_value());
    ASSERT_TRUE(journal.add("b", {.bytes = 2, .checksums = {UINT64_MAX}}).has_value());
  }
  EXPECT_THAT(Journal::read(path, "this"), SizeIs(2));
  EXPECT_EQ(Journal::read(path, "this")["b"].checksums.front(), UINT64_MAX);
  EXPECT_THAT(Journal::read(path, "another"), IsEmpty());
  const std::string text = read_text(path);
  for (size_t bytes = 0; bytes < text.size(); ++bytes) {
    std::ofstream(path, std::ios::binary) << text.substr(0, bytes);
    EXPECT_LE(Journal::read(path, "this").size(), 1U) << bytes;
  }
  EXPECT_THAT(Journal::read(folder / "none", "this"), IsEmpty());
}

}  // namespace
}  // namespace odmoe

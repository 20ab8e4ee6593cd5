// What `odmoe plan` says, beside what `odmoe inspect` and the engine say of the same model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/units.h"
#include "cli/process.h"
#include "kimi_k2.h"
#include "odmoe/engine.h"
#include "runnable_model.h"
#include "temp_dir.h"

namespace odmoe::testing::plan_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

// What the process itself takes differs a little from run to run.
constexpr double kProcessBytes = 8 << 20;
const std::vector<std::string> kMachine = {"--ram",  "2GiB",    "--memory-bandwidth",
                                           "50GB/s", "--drive", "2GB/s"};

std::vector<std::string> plan_of(const std::string& model, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"plan", model};
  arguments.insert(arguments.end(), kMachine.begin(), kMachine.end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

Json json_of(const std::vector<std::string>& arguments) {
  const Outcome outcome = odmoe(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return outcome.exit_code == 0 ? Json::parse(outcome.out) : Json();
}

class Plan : public ::testing::Test {
 protected:
  Plan() { runnable_model({.expert_type = GGML_TYPE_Q8_0}).write(dir_ / "small.gguf"); }
  std::string small() const { return (dir_ / "small.gguf").string(); }
  TempDir dir_;
};

TEST_F(Plan, WhatATokenTakesBesideReadingIsAddedToIt) {
  const auto speed = [&](const char* overhead) {
    return json_of(plan_of(small(), {"--context", "256", "--json", "--overhead",
                                     overhead}))["contexts"][0]["expected"]["tokens_per_second"]["overlapped"]
        .get<double>();
  };
  EXPECT_NEAR(1 / speed("10ms") - 1 / speed("0ms"), 10e-3, 1e-6);
  EXPECT_THAT(odmoe(plan_of(small(), {"--overhead", "8.5ms"})).out, HasSubstr("8.5 ms for a token"));
  EXPECT_EQ(odmoe(plan_of(small(), {"--overhead", "8"})).exit_code, 2);
  EXPECT_EQ(odmoe(plan_of(small(), {"--overhead", "2s"})).exit_code, 2);
}

TEST_F(Plan, SeveralMachinesHoldMoreAndWaitForTheirNetwork) {
  const std::vector<std::string> more = {"--context", "256", "--json", "--machines", "2", "--latency", "1ms"};
  const Json alone = json_of(plan_of(small(), {"--context", "256", "--json"}))["contexts"][0]["expected"];
  const Json both = json_of(plan_of(small(), more))["contexts"][0]["expected"];
  EXPECT_GE(both["expert_share"], alone["expert_share"]);
  EXPECT_EQ(alone["network_seconds"], 0);
  EXPECT_GE(both["network_seconds"], 2e-3);
  EXPECT_LT(both["tokens_per_second"]["overlapped"], alone["tokens_per_second"]["overlapped"]);
  const Outcome wrong = odmoe(plan_of(small(), {"--machines", "2", "--latency", "fast"}));
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("'fast' is not a time"));
  EXPECT_THAT(odmoe(plan_of(small(), {"--machines", "0"})).err, HasSubstr("--machines"));
}

TEST_F(Plan, AgreesWithWhatInspectAndTheEngineSayOfTheModel) {
  for (const std::string& model : {small(), std::string(ODMOE_SOURCE_DIR "/models/demo.gguf")}) {
    SCOPED_TRACE(model);
    const Json planned = json_of(plan_of(model, {"--context", "256", "--json"}));
    const Json inspected = json_of({"inspect", model, "--context", "256", "--json"});
    const Json& at = planned["contexts"][0];
    EXPECT_EQ(at["context"], 256);
    EXPECT_EQ(at["dense_memory_bytes"], inspected["dense_memory_bytes"]);
    EXPECT_EQ(at["kv_bytes"], inspected["kv_bytes"]);
    EXPECT_EQ(at["dense_read_bytes"], inspected["estimate"]["dense_read_bytes"]);
    EXPECT_EQ(at["state_read_bytes"].get<uint64_t>(), inspected["kv_bytes_per_token"].get<uint64_t>() * 256);
    EXPECT_EQ(planned["expert_bytes"], inspected["expert_bytes"]);
    EXPECT_EQ(planned["cycle_bytes"], inspected["cycle_bytes"]);
    EXPECT_NEAR(at["buffer_bytes"].get<double>(), inspected["buffer_bytes"].get<double>(), kProcessBytes);

    EngineOptions options;
    options.model = model;
    options.context = 256;
    options.memory = {.kind = MemoryBudget::Kind::kBytes,
                      .bytes = planned["machine"]["budget_bytes"].get<uint64_t>(),
                      .percent = 0};
    const auto engine = Engine::open(options);
    ASSERT_TRUE(engine.has_value()) << engine.error().message;
    EXPECT_EQ(at["slots"], (*engine)->plan().n_slot);
    EXPECT_EQ(at["experts"], (*engine)->plan().n_expert_total);
    EXPECT_EQ(at["arena_bytes"], (*engine)->plan().arena_bytes);
  }
}

TEST_F(Plan, SpeedIsWhatFollowsFromTheBytesAndTheRates) {
  const Json planned = json_of(plan_of(small(), {"--context", "256", "--json"}));
  const Json& at = planned["contexts"][0];
  const double bytes = at["dense_read_bytes"].get<double>() + planned["cycle_bytes"].get<double>() +
                       at["state_read_bytes"].get<double>();
  EXPECT_NEAR(at["expected"]["memory_tokens_per_second"].get<double>(), 50e9 / bytes, 50e9 / bytes * 1e-9);
  EXPECT_EQ(at["expected"]["expert_share"], 1);
  EXPECT_TRUE(at["expected"]["drive_tokens_per_second"].is_null());
}

TEST_F(Plan, AFileWithoutWeightsWillDo) {
  const std::filesystem::path header = dir_ / "header.gguf";
  std::filesystem::copy_file(small(), header);
  const uint64_t whole = std::filesystem::file_size(header);
  // All but the header is a hole.
  const auto head = json_of({"inspect", small(), "--json"});
  const uint64_t weights = head["dense_bytes"].get<uint64_t>() + head["expert_bytes"].get<uint64_t>();
  std::filesystem::resize_file(header, whole - weights);
  const Outcome cut = odmoe(plan_of(header.string()));
  EXPECT_EQ(cut.exit_code, 1);
  EXPECT_THAT(cut.err, HasSubstr("cut short"));
  std::filesystem::resize_file(header, whole);
  Json with = json_of(plan_of(small(), {"--context", "256", "--json"}));
  Json without = json_of(plan_of(header.string(), {"--context", "256", "--json"}));
  for (const char* name : {"expert_bytes", "cycle_bytes"}) EXPECT_EQ(with[name], without[name]);
  for (const char* name : {"dense_memory_bytes", "kv_bytes", "slots", "dense_read_bytes"})
    EXPECT_EQ(with["contexts"][0][name], without["contexts"][0][name]) << name;
}

TEST_F(Plan, HitRatesAreAssumedVisiblyUnlessATraceIsGiven) {
  EXPECT_THAT(odmoe(plan_of(small())).out, HasSubstr("ASSUMED"));
  EXPECT_THAT(odmoe(plan_of(small(), {"--assume", "chance"})).out, HasSubstr("as likely as any other"));
  const std::filesystem::path trace = dir_ / "trace.csv";
  std::ofstream(trace) << "layer,step,expert\n0,0,0\n1,0,1\n0,1,0\n1,1,2\n";
  const Outcome recorded = odmoe(plan_of(small(), {"--trace", trace.string()}));
  EXPECT_EQ(recorded.exit_code, 0) << recorded.err;
  EXPECT_THAT(recorded.out, HasSubstr("trace.csv"));
  EXPECT_THAT(recorded.out, Not(HasSubstr("ASSUMED")));
  EXPECT_THAT(recorded.out, HasSubstr("75.0 % of what it wants it wants for the first time"));
  EXPECT_EQ(odmoe(plan_of(small(), {"--trace", trace.string(), "--assume", "chance"})).exit_code, 2);
  EXPECT_EQ(odmoe(plan_of(small(), {"--sessions", "0"})).exit_code, 2);
}

TEST_F(Plan, ErrorsSayWhatToWrite) {
  const auto error = [&](std::vector<std::string> arguments, int exit_code) {
    arguments.insert(arguments.begin(), "plan");
    const Outcome outcome = odmoe(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  const std::string model = small();
  EXPECT_THAT(error({model, "--memory-bandwidth", "50GB/s", "--drive", "2GB/s"}, 2), HasSubstr("--ram"));
  EXPECT_THAT(error({model, "--ram", "2GiB", "--drive", "2GB/s"}, 2), HasSubstr("--memory-bandwidth"));
  EXPECT_THAT(error({model, "--ram", "2GiB", "--memory-bandwidth", "50GB/s"}, 2), HasSubstr("--drive"));
  EXPECT_THAT(error({model, "--ram", "192", "--memory-bandwidth", "50GB/s", "--drive", "2GB/s"}, 2),
              HasSubstr("192GiB"));
  EXPECT_THAT(error({model, "--ram", "2GiB", "--memory-bandwidth", "50GB", "--drive", "2GB/s"}, 2),
              HasSubstr("6.5GB/s"));
  EXPECT_THAT(error({model, "--ram", "2GiB", "--memory-bandwidth", "50GB/s", "--drive", "10Gbit/s"}, 2),
              HasSubstr("bits"));
  EXPECT_THAT(error({model, "--ram", "2GiB", "--memory-bandwidth", "2GB/s", "--drive", "50GB/s"}, 2),
              HasSubstr("exchanged"));
  const Outcome context = odmoe(plan_of(model, {"--context", "4096,many"}));
  EXPECT_EQ(context.exit_code, 2);
  EXPECT_THAT(context.err, HasSubstr("'many' is not a context"));
  const Outcome missing = odmoe(plan_of((dir_ / "none.gguf").string()));
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, HasSubstr("none.gguf"));
}

TEST_F(Plan, TooLittleRamIsRefusedWithTheLeastThatWillDoAndThatDoes) {
  const auto with = [&](const std::string& ram) {
    return odmoe({"plan", small(), "--ram", ram, "--memory-bandwidth", "50GB/s", "--drive", "2GB/s",
                  "--context", "256"});
  };
  const Outcome refused = with("260MiB");
  EXPECT_EQ(refused.exit_code, 1) << refused.out;
  const size_t at = refused.err.find("it takes --ram ");
  ASSERT_NE(at, std::string::npos) << refused.err;
  const std::string least = refused.err.substr(at + 15, refused.err.find(" or more", at) - at - 15);
  // The process itself may be a little larger the next time.
  const uint64_t enough = parse_bytes(least).value() + (8 << 20);
  EXPECT_EQ(with(std::to_string(enough)).exit_code, 0) << least;
}

void expect_no_worse(const Json& less, const Json& more) {
  EXPECT_GE(more["expert_share"], less["expert_share"]);
  EXPECT_GE(more["hit_rate"], less["hit_rate"]);
  for (const char* name : {"one_after_the_other", "overlapped"})
    EXPECT_GE(more["tokens_per_second"][name], less["tokens_per_second"][name]);
}

TEST_F(Plan, MoreRamIsNeverWorseForAModelThatIsHundredsOfGigabytes) {
  const std::filesystem::path kimi = dir_ / "kimi.gguf";
  kimi_k2_header().write(kimi);
  Json before;
  for (const char* ram : {"48GiB", "64GiB", "192GiB", "512GiB"}) {
    SCOPED_TRACE(ram);
    const Json planned = json_of({"plan", kimi.string(), "--ram", ram, "--memory-bandwidth", "800GB/s",
                                  "--drive", "6.5GB/s", "--context", "4K", "--json"});
    const Json& at = planned["contexts"][0];
    if (!before.is_null()) {
      expect_no_worse(before["expected"], at["expected"]);
      EXPECT_GE(at["slots"], before["slots"]);
    }
    const Json& sizes = at["over_memory"];
    ASSERT_GT(sizes.size(), 4U);
    for (size_t i = 1; i < sizes.size(); ++i) {
      EXPECT_GT(sizes[i]["ram_bytes"], sizes[i - 1]["ram_bytes"]);
      expect_no_worse(sizes[i - 1], sizes[i]);
    }
    before = at;
  }
  EXPECT_EQ(before["slots"], before["experts"]);
}

}  // namespace
}  // namespace odmoe::testing::plan_test

#include "engine/choose_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <map>
#include <memory>
#include <sstream>

#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TempDir;

DeviceInfo cpu() { return {.name = "CPU", .description = "some processor"}; }
DeviceInfo gpu(std::string name) {
  return {.name = std::move(name),
          .description = "some GPU",
          .kind = DeviceInfo::Kind::kGpu,
          .memory_bytes = uint64_t{8} << 30,
          .free_bytes = uint64_t{7} << 30};
}

class ChooseDevice : public ::testing::Test {
 protected:
  DeviceTrials trials(std::vector<DeviceInfo> devices) {
    return {.devices = std::move(devices),
            .model = "0123",
            .kernels = "ggml 0.27",
            .measure = [this](const std::string& device) -> Result<DeviceSpeed> {
              measured_.push_back(device);
              if (const auto error = errors_.find(device); error != errors_.end())
                return std::unexpected(error->second);
              return speeds_.at(device);
            }};
  }
  Result<DeviceChoice> choose(std::vector<DeviceInfo> devices) {
    measured_.clear();
    return choose_device(options_, trials(std::move(devices)));
  }

  TempDir dir_;
  EngineOptions options_{.model = "m.gguf", .context = 4096, .device_file = dir_.path() / "devices.json"};
  // A turn of the processor takes 20.48 + 25.6 seconds.
  std::map<std::string, DeviceSpeed> speeds_{{"cpu", {.prefill = 100, .decode = 10}}};
  std::map<std::string, Error> errors_;
  std::vector<std::string> measured_;
};

TEST_F(ChooseDevice, WithTheProcessorAloneNothingIsMeasuredNorSaid) {
  for (const std::vector<DeviceInfo>& devices :
       {std::vector{cpu()}, std::vector{cpu(), [] {
                                          DeviceInfo lavapipe = gpu("Vulkan0");
                                          lavapipe.is_software = true;
                                          return lavapipe;
                                        }()}}) {
    const DeviceChoice choice = choose(devices).value();
    EXPECT_EQ(choice.device, "cpu");
    EXPECT_EQ(choice.why, "");
    EXPECT_TRUE(measured_.empty());
    EXPECT_FALSE(std::filesystem::exists(options_.device_file));
  }
}

TEST_F(ChooseDevice, WhereItCannotBeKeptItIsTheProcessor) {
  speeds_["GPU0"] = {.prefill = 200, .decode = 20};
  options_.device_file.clear();
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).value().device, "cpu");
  EXPECT_TRUE(measured_.empty());
  std::ofstream(dir_ / "file") << "in the way";
  options_.device_file = dir_ / "file/devices.json";
  const DeviceChoice choice = choose({cpu(), gpu("GPU0")}).value();
  EXPECT_EQ(choice.device, "cpu");
  EXPECT_THAT(choice.why, HasSubstr("cannot keep which device is fastest"));
}

TEST_F(ChooseDevice, ThatMakesATurnShorterByEnough) {
  speeds_["GPU0"] = {.prefill = 1000, .decode = 10.2};
  const DeviceChoice choice = choose({cpu(), gpu("GPU0")}).value();
  EXPECT_EQ(choice.device, "GPU0");
  EXPECT_THAT(choice.why, HasSubstr("the processor 100.0 and 10.0 tokens/s; GPU0 1000.0 and 10.2"));

  options_.chunk = 256;
  speeds_["GPU0"] = {.prefill = 104, .decode = 10.4};
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).value().device, "cpu") << "a gain of 4 % is taken for noise";

  options_.chunk = 128;
  speeds_["GPU0"] = {.prefill = 10000, .decode = 5};
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).value().device, "cpu") << "the answer takes longer than is gained";
}

TEST_F(ChooseDevice, TheFastestOfSeveral) {
  speeds_["GPU0"] = {.prefill = 200, .decode = 20};
  speeds_["GPU1"] = {.prefill = 400, .decode = 40};
  EXPECT_EQ(choose({cpu(), gpu("GPU0"), gpu("GPU1")}).value().device, "GPU1");
}

TEST_F(ChooseDevice, OnceFoundItStaysWhateverWouldBeMeasured) {
  speeds_["GPU0"] = {.prefill = 200, .decode = 20};
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).value().device, "GPU0");
  EXPECT_THAT(measured_, ElementsAre("cpu", "GPU0"));
  speeds_["GPU0"] = {.prefill = 1, .decode = 1};
  options_.memory = parse_memory_budget("10%").value();
  options_.predictor = PredictorKind::kNone;
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).value().device, "GPU0");
  EXPECT_EQ(kept_device(options_, trials({cpu(), gpu("GPU0")})).device, "GPU0");
  EXPECT_TRUE(measured_.empty());
}

TEST_F(ChooseDevice, IsFoundAnewWhereAnotherThingIsComputedOrByOthers) {
  speeds_["GPU0"] = {.prefill = 200, .decode = 20};
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).value().device, "GPU0");
  EXPECT_EQ(
      kept_device({.model = "m.gguf", .device_file = options_.device_file}, trials({cpu(), gpu("GPU0")})).why,
      "no device was measured for this model yet")
      << "another context";
  DeviceInfo other = gpu("GPU0");
  other.description = "another GPU";
  choose({cpu(), other}).value();
  EXPECT_FALSE(measured_.empty());
  DeviceTrials changed = trials({cpu(), gpu("GPU0")});
  changed.kernels = "ggml 0.28";
  measured_.clear();
  choose_device(options_, changed).value();
  EXPECT_FALSE(measured_.empty());
  changed.model = "4567";
  measured_.clear();
  choose_device(options_, changed).value();
  EXPECT_FALSE(measured_.empty());
}

TEST_F(ChooseDevice, IsFoundAnewForAnotherPlacementOfExperts) {
  speeds_["GPU0"] = {.prefill = 200, .decode = 20};
  choose({cpu(), gpu("GPU0")}).value();
  for (const ExpertPlacement placement : {ExpertPlacement::kInPlace, ExpertPlacement::kDevice}) {
    options_.experts = placement;
    choose({cpu(), gpu("GPU0")}).value();
    EXPECT_THAT(measured_, ElementsAre("cpu", "GPU0"));
  }
}

TEST_F(ChooseDevice, SaysOnceThatItTriesOutAndHowToDoWithout) {
  std::ostringstream said;
  const auto logger =
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_mt>(said));
  logger->set_level(spdlog::level::warn);  // as the program has it
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(logger);
  speeds_["GPU0"] = {.prefill = 200, .decode = 20};
  choose({cpu()}).value();
  EXPECT_EQ(said.str(), "");
  choose({cpu(), gpu("GPU0")}).value();
  EXPECT_THAT(said.str(), HasSubstr("the processor or GPU0 computes m.gguf fastest"));
  EXPECT_THAT(said.str(), HasSubstr("--device cpu does without"));
  said.str("");
  choose({cpu(), gpu("GPU0")}).value();
  EXPECT_EQ(said.str(), "");
  spdlog::set_default_logger(before);
}

TEST(DeviceTrial, EndsEarlyWhereItTakesLongButNotBeforeARoundThatCounts) {
  using std::chrono::hours;
  EXPECT_TRUE(wants_trial_round(0, {}));
  EXPECT_TRUE(wants_trial_round(1, hours(1))) << "the first does not count";
  EXPECT_TRUE(wants_trial_round(2, kLongTrial - std::chrono::microseconds(1)));
  EXPECT_FALSE(wants_trial_round(2, kLongTrial));
  EXPECT_FALSE(wants_trial_round(3, {}));
}

TEST(DeviceTrial, HasAShorterPromptWhereExpertsAreReadAgain) {
  MemoryPlan plan;
  plan.n_expert_total = plan.n_slot = 96;
  const int32_t whole = longest_trial_prompt(plan);
  plan.n_slot = 95;
  EXPECT_LT(longest_trial_prompt(plan), whole);
}

TEST_F(ChooseDevice, ThatCannotHoldTheModelIsPassedOverAndNamed) {
  errors_["GPU0"] = {ErrorKind::kBudget, "1 GiB may be taken of GPU0"};
  speeds_["GPU1"] = {.prefill = 200, .decode = 20};
  const DeviceChoice choice = choose({cpu(), gpu("GPU0"), gpu("GPU1")}).value();
  EXPECT_EQ(choice.device, "GPU1");
  EXPECT_THAT(choice.why, HasSubstr("GPU0 cannot be used: 1 GiB may be taken of GPU0"));
}

TEST_F(ChooseDevice, AnInterruptedMeasurementIsMadeAgain) {
  errors_["GPU0"] = {ErrorKind::kInterrupted, "interrupted"};
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).error().kind, ErrorKind::kInterrupted);
  errors_.clear();
  speeds_["GPU0"] = {.prefill = 200, .decode = 20};
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).value().device, "GPU0");
}

TEST_F(ChooseDevice, ADriverThatEndsTheProcessIsNotTriedAgainUntilThatIsForgotten) {
  DeviceTrials ends = trials({cpu(), gpu("GPU0")});
  std::string kept_meanwhile;
  ends.measure = [&](const std::string& device) -> Result<DeviceSpeed> {
    // What another process would find, if this one ended here.
    if (device != "cpu") kept_meanwhile = kept_device(options_, trials({cpu(), gpu("GPU0")})).why;
    return speeds_.at("cpu");
  };
  choose_device(options_, ends).value();
  EXPECT_THAT(kept_meanwhile, HasSubstr("GPU0 was tried out and did not come to an end"));
  ASSERT_TRUE(forget_devices(options_.device_file, "0123").has_value());
  speeds_["GPU0"] = {.prefill = 200, .decode = 20};
  EXPECT_EQ(choose({cpu(), gpu("GPU0")}).value().device, "GPU0");
}

}  // namespace
}  // namespace odmoe

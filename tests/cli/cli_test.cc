// The command line through the program itself, with the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/process.h"
#include "runnable_model.h"
#include "temp_dir.h"

namespace odmoe::testing::cli_test {
namespace {

using ::testing::AnyOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Arguments = std::vector<std::string>;

const std::string kModel = ODMOE_SOURCE_DIR "/models/demo.gguf";

Arguments operator+(Arguments left, const Arguments& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// A short text that is the same each time.
Arguments run(const Arguments& more = {}) {
  return Arguments{"run", kModel, "-t", "1", "-n", "8", "-c", "256", "--temperature", "0", "--ignore-eos"} +
         more;
}
// One that would never end.
Arguments run_for_ever() {
  return {"run", kModel, "-p", "In the beginning", "-c", "64", "--ignore-eos", "--context-overflow", "shift"};
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// One line that begins as all our errors do.
MATCHER(IsOneErrorLine, "") {
  return arg.starts_with("odmoe: ") && std::ranges::count(arg, '\n') == 1 && arg.ends_with('\n');
}

void expect_error(const Outcome& outcome, int exit_code, const std::string& message) {
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
  EXPECT_THAT(outcome.err, IsOneErrorLine());
  EXPECT_THAT(outcome.err, HasSubstr(message));
  EXPECT_THAT(outcome.out, IsEmpty());
}

TEST(CommandLine, WrongUsageIsOneLineAndExitCodeTwo) {
  expect_error(odmoe({}), 2, "odmoe --help");
  expect_error(odmoe({"dance"}), 2, "dance");
  expect_error(odmoe({"run"}), 2, "MODEL");
  expect_error(odmoe({"run", kModel, "--colour"}), 2, "odmoe run --help");
  expect_error(odmoe(run({"--cache-type", "f64"})), 2, "f16|bf16|q8_0|f32");
  expect_error(odmoe(run({"--memory", "lots"})), 2, "8GiB");
  expect_error(odmoe(run({"-p", "x", "--top-p", "7"})), 2, "top");
  expect_error(odmoe(run({"-p", "x", "--chunk", "0"})), 2, "chunk");
  expect_error(odmoe(run({"-p", "x", "--stop", ""})), 2, "--stop");
  expect_error(odmoe({"perplexity", kModel}), 2, "--file");
  expect_error(odmoe({"serve", kModel, "--batch-dir", "none", "--sessions", "200", "--batch-width", "100"}),
               2, "--batch-width 100");
  expect_error(odmoe({"completion", "tcsh"}), 2, "bash|zsh|fish");
}

TEST(CommandLine, HelpAndVersionGoToStandardOutput) {
  for (const Arguments& help :
       {Arguments{"--help"}, {"run", "--help"}, {"inspect", "-h"}, {"perplexity", "--help"}}) {
    const Outcome outcome = odmoe(help);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.out, HasSubstr("Examples:"));
    EXPECT_THAT(outcome.err, IsEmpty());
  }
  EXPECT_THAT(odmoe({"--version"}).out, StartsWith("odmoe "));
}

TEST(CommandLine, AModelThatIsNoneIsOneLineAndExitCodeOne) {
  const TempDir dir;
  expect_error(odmoe({"inspect", (dir / "none.gguf").string()}), 1, "none.gguf");
  expect_error(odmoe({"inspect", dir.path().string()}), 1, dir.path().string());
  expect_error(odmoe({"run", dir.write("text.gguf", "Once upon a time").string(), "-p", "x"}), 1,
               "text.gguf");
  const std::string whole = read(kModel);
  expect_error(odmoe({"run", dir.write("cut.gguf", whole.substr(0, whole.size() / 2)).string(), "-p", "x"}),
               1, "cut.gguf");
}

TEST(Simulate, WritesTheToysHandWorkedHits) {
  const TempDir dir;
  const std::string toy = ODMOE_SOURCE_DIR "/tests/data/traces/toy/events.csv";
  const std::string file = (dir / "hits.json").string();
  const Outcome outcome = odmoe({"simulate", toy, "--budget", "50%,8", "--expert-bytes", "1", "--policy",
                                 "layer-lru,forecast", "--json", file, "--csv", (dir / "hits.csv").string()});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, IsEmpty());
  EXPECT_THAT(outcome.out, HasSubstr("layer-lru"));
  const auto json = nlohmann::json::parse(read(file));
  ASSERT_EQ(json.size(), 6U);  // two budgets, two policies and Belady
  EXPECT_EQ(json[0]["policy"], "layer-lru");
  EXPECT_EQ(json[0]["default"], false);
  EXPECT_EQ(json[0]["budget_bytes"], 6);
  EXPECT_EQ(json[0]["demands"], 30);
  EXPECT_EQ(json[0]["hits"], 12);
  EXPECT_EQ(json[0]["hit_rate"], 0.4);
  EXPECT_EQ(json[1]["policy"], "forecast");
  EXPECT_EQ(json[1]["default"], true);
  EXPECT_EQ(json[2]["policy"], "belady");
  EXPECT_EQ(json[3]["slots"], 8);
  EXPECT_THAT(read(dir / "hits.csv"), HasSubstr("layer-lru,false,50,6,6,30,12,0.4\n"));
}

TEST(Simulate, WhatCannotBeIsOneLine) {
  const TempDir dir;
  const std::string toy = ODMOE_SOURCE_DIR "/tests/data/traces/toy";
  expect_error(odmoe({"simulate", (dir / "none.csv").string()}), 1, "none.csv");
  expect_error(odmoe({"simulate", dir.write("text", "Once upon a time").string()}), 1, "not a routing trace");
  expect_error(odmoe({"simulate", toy, "--budget", "auto"}), 2, "25%");
  expect_error(odmoe({"simulate", toy, "--budget", "0.1%"}), 2, "at least");
  expect_error(odmoe({"simulate", toy, "--policy", "clock"}), 2, "layer-lru");
  expect_error(odmoe({"simulate", toy, "--sessions", "a:b"}), 2, "0:421:60");
  expect_error(odmoe({"simulate", toy, "--sessions", "5"}), 2, "sessions 0 to 0");
  expect_error(odmoe(run({"-p", "x", "--policy", "clock"})), 2, "forecast|lru");
}

TEST(Run, WritesTextToStandardOutputAndNothingElse) {
  const Outcome outcome = odmoe(run({"-p", "In the beginning"}));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, Not(IsEmpty()));
  EXPECT_THAT(outcome.out, EndsWith("\n"));
  EXPECT_THAT(outcome.out, Not(StartsWith("In the beginning")));
  EXPECT_THAT(outcome.err, IsEmpty());
}

TEST(Run, TakesThePromptFromOptionPipeOrFile) {
  const TempDir dir;
  const std::string expected = odmoe(run({"-p", "In the beginning"})).out;
  EXPECT_EQ(odmoe(run(), {.input = "In the beginning\n"}).out, expected);
  EXPECT_EQ(odmoe(run({"-p", "-"}), {.input = "In the beginning"}).out, expected);
  EXPECT_EQ(odmoe(run({"-f", dir.write("prompt", "In the beginning\n").string()})).out, expected);
  expect_error(odmoe(run({"-f", (dir / "missing").string()})), 1, "missing");
  expect_error(odmoe(run({"-p", ""})), 2, "empty");
}

TEST(Run, EchoWritesThePromptFirst) {
  const std::string text = odmoe(run({"-p", "In the beginning"})).out;
  EXPECT_EQ(odmoe(run({"-p", "In the beginning", "--echo"})).out, "In the beginning" + text);
}

TEST(Run, TheSeedDecidesTheText) {
  const auto text = [](const char* seed) {
    return odmoe({"run", kModel, "-p", "In the", "-n", "24", "-c", "256", "--temperature", "1.5", "--seed",
                  seed})
        .out;
  };
  EXPECT_EQ(text("1"), text("1"));
  EXPECT_NE(text("1"), text("2"));
}

TEST(Run, TheBudgetDoesNotChangeTheText) {
  const auto text = [](const char* memory) {
    return odmoe(run({"-p", "In the beginning", "--memory", memory})).out;
  };
  EXPECT_EQ(text("100%"), text("15%"));
}

TEST(Run, ABudgetThatCannotDoNamesTheSmallestThatWould) {
  const Outcome refused = odmoe(run({"-p", "x", "--memory", "1MiB"}));
  expect_error(refused, 1, "--memory");
  EXPECT_THAT(refused.err, AnyOf(HasSubstr("MiB"), HasSubstr("GiB")));
}

TEST(Run, StopStringsEndTheTextAndAreNotShown) {
  const std::string text = odmoe(run({"-p", "In the beginning"})).out;
  const std::string stop = text.substr(3, 4);
  EXPECT_EQ(odmoe(run({"-p", "In the beginning", "--stop", stop})).out,
            text.substr(0, text.find(stop)) + "\n");
}

TEST(Run, SaysSoWhenTheContextEndedTheText) {
  const Outcome outcome = odmoe({"run", kModel, "-p", "In the", "-c", "32", "--ignore-eos", "-n", "-1"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, IsOneErrorLine());
  EXPECT_THAT(outcome.err, HasSubstr("context of 32 tokens is full"));
}

TEST(Run, VerboseShowsPlanSeedAndSummary) {
  const Outcome outcome = odmoe(run({"-p", "In the beginning", "--verbose", "--seed", "5"}));
  EXPECT_THAT(outcome.err, HasSubstr("seed 5\n"));
  EXPECT_THAT(outcome.err, HasSubstr("memory plan"));
  EXPECT_THAT(outcome.err, HasSubstr("prompt tokens at"));
}

TEST(Run, StatsAreJson) {
  const TempDir dir;
  const std::string path = (dir / "stats.json").string();
  EXPECT_EQ(odmoe(run({"-p", "In the beginning", "--stats", path})).exit_code, 0);
  const auto stats = nlohmann::json::parse(read(path));
  for (const char* section : {"memory", "prefill", "decode", "experts", "io", "routing", "roofline"}) {
    EXPECT_TRUE(stats.contains(section)) << section;
  }
  EXPECT_GT(stats["experts"]["demands"], 0);
  EXPECT_GT(stats["decode"]["tokens"], 0);

  const Outcome to_error = odmoe(run({"-p", "In the beginning", "--stats", "-"}));
  EXPECT_EQ(nlohmann::json::parse(to_error.err)["experts"]["demands"], stats["experts"]["demands"]);
}

TEST(Run, ReportsThatCannotBeWrittenAreErrors) {
  expect_error(odmoe(run({"-p", "x", "--stats", "/no/such/folder/stats.json"})), 1,
               "/no/such/folder/stats.json");
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this system";
  const Outcome full = odmoe(run({"-p", "x", "--stats", "/dev/full"}));
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.err, IsOneErrorLine());
  EXPECT_THAT(full.err, HasSubstr("/dev/full"));
}

TEST(Run, StandardOutputThatIsFullIsAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this system";
  expect_error(odmoe(run({"-p", "x"}), {.output_file = "/dev/full"}), 1, "standard output");
  expect_error(odmoe(run({"-p", "x", "--echo"}), {.output_file = "/dev/full"}), 1, "standard output");
  expect_error(odmoe({"inspect", kModel}, {.output_file = "/dev/full"}), 1, "standard output");
  expect_error(odmoe({"man"}, {.output_file = "/dev/full"}), 1, "standard output");
}

TEST(Run, AReaderThatGoesAwayEndsItQuietly) {
  for (const Arguments& arguments :
       {run_for_ever(), run({"-p", "x", "--echo"}), {"inspect", kModel}, {"man"}}) {
    const Outcome outcome = odmoe(arguments, {.close_output = true});
    EXPECT_EQ(outcome.exit_code, 141) << arguments.front();
    EXPECT_THAT(outcome.err, IsEmpty());
  }
}

TEST(Run, AnInterruptKeepsWhatWasMade) {
  const TempDir dir;
  const std::string path = (dir / "stats.json").string();
  bool sent = false;
  const Outcome outcome =
      odmoe(run_for_ever() + Arguments{"--stats", path}, {.watch = [&](pid_t child, const std::string& text) {
              if (text.size() > 20 && !sent) {
                sent = true;
                kill(child, SIGINT);
              }
            }});
  EXPECT_EQ(outcome.exit_code, 130);
  EXPECT_GT(outcome.out.size(), 20U);
  EXPECT_THAT(outcome.out, EndsWith("\n"));
  EXPECT_THAT(outcome.err, IsEmpty());
  EXPECT_GT(nlohmann::json::parse(read(path))["decode"]["tokens"], 0);
}

TEST(Chat, AnswersEachLine) {
  const Arguments chat = {"run", kModel, "--chat",        "-n", "6",
                          "-c",  "256",  "--temperature", "0",  "--ignore-eos"};
  const Outcome two = odmoe(chat, {.input = "Good morrow\nAnd who are you?\n"});
  EXPECT_EQ(two.exit_code, 0) << two.err;
  EXPECT_THAT(two.err, IsEmpty());
  const Outcome one = odmoe(chat, {.input = "Good morrow\n"});
  EXPECT_THAT(two.out, StartsWith(one.out));
  EXPECT_GT(two.out.size(), one.out.size());
  EXPECT_EQ(odmoe(chat + Arguments{"-p", "Good morrow"}, {.input = "And who are you?\n"}).out, two.out);
  EXPECT_NE(odmoe(chat + Arguments{"--system", "Thou art a king"}, {.input = "Good morrow\n"}).out, one.out);
}

TEST(Chat, KeepsTheKvCacheAcrossTurns) {
  const TempDir dir;
  const std::string path = (dir / "stats.json").string();
  const auto prompt_tokens = [&](const std::string& input) {
    EXPECT_EQ(odmoe({"run", kModel, "--chat", "-n", "6", "-c", "512", "--temperature", "0", "--ignore-eos",
                     "--stats", path},
                    {.input = input})
                  .exit_code,
              0);
    return nlohmann::json::parse(read(path))["prefill"]["tokens"].get<int>();
  };
  const std::string long_message = std::string(100, 'x') + "\n";
  const int first = prompt_tokens(long_message);
  const int both = prompt_tokens(long_message + "y\n");
  EXPECT_GT(both, first);
  EXPECT_LT(both, 2 * first);
}

TEST(Chat, AnUnknownTemplateIsNamedTogetherWithThoseThatAreKnown) {
  const Outcome outcome = odmoe({"run", kModel, "--chat", "--chat-template", "klingon"}, {.input = "x\n"});
  EXPECT_THAT(outcome.exit_code, AnyOf(1, 2));
  EXPECT_THAT(outcome.err, IsOneErrorLine());
  EXPECT_THAT(outcome.err, HasSubstr("chatml"));
}

// The prompt, behind what asks the terminal to mark what is pasted.
constexpr std::string_view kAsksForMore = "\x1b[?2004h> ";

TEST(Chat, OnATerminalCtrlCStopsTheAnswerAndThenTheConversation) {
  Terminal terminal({"run", kModel, "--chat", "-c", "64", "--ignore-eos", "--context-overflow", "shift"});
  ASSERT_TRUE(terminal.wait_for(kAsksForMore)) << terminal.screen();
  terminal.type("Good morrow\n");
  ASSERT_TRUE(terminal.wait_for("morrow\r\n"));
  ASSERT_TRUE(terminal.wait_for_more(20));
  terminal.type("\x03");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore)) << terminal.screen();
  terminal.type("\x03");
  EXPECT_EQ(terminal.finish(), 130);
}

TEST(Chat, OnATerminalTheEndOfTheInputEndsTheConversation) {
  Terminal terminal({"run", kModel, "--chat", "-c", "256", "-n", "4"});
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("Good morrow\n");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore)) << terminal.screen();
  terminal.type("\x04");
  EXPECT_EQ(terminal.finish(), 0);
}

TEST(Chat, OnATerminalCommandsSayWhatTheyDo) {
  const TempDir dir;
  const std::string path = (dir / "conversation.json").string();
  Terminal terminal({"run", kModel, "--chat", "-c", "256", "-n", "4", "--no-history"});
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("/nonsense\n");
  ASSERT_TRUE(terminal.wait_for("no command /nonsense")) << terminal.screen();
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("/system Thou art a king\n");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("Good morrow\n");
  ASSERT_TRUE(terminal.wait_for("morrow\r\n"));
  ASSERT_TRUE(terminal.wait_for(kAsksForMore)) << terminal.screen();
  terminal.type("/retry\n");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("/save " + path + "\n");
  ASSERT_TRUE(terminal.wait_for("3 messages are in")) << terminal.screen();
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("/stats\n");
  ASSERT_TRUE(terminal.wait_for("prompt tokens at")) << terminal.screen();
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("/new\n");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("/retry\n");
  ASSERT_TRUE(terminal.wait_for("no message yet")) << terminal.screen();
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("/load " + path + "\n");
  ASSERT_TRUE(terminal.wait_for("3 messages from")) << terminal.screen();
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.finish(), 0);
  const auto saved = nlohmann::json::parse(read(path));
  EXPECT_EQ(saved["messages"][0]["content"], "Thou art a king");
  EXPECT_EQ(saved["messages"][1]["content"], "Good morrow");
}

TEST(Chat, OnATerminalWhatIsPastedIsOneMessage) {
  const TempDir dir;
  const std::string path = (dir / "conversation.json").string();
  Terminal terminal({"run", kModel, "--chat", "-c", "256", "-n", "4", "--no-history"});
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("\x1b[200~first\rZ\xC3\xBCrich\x1b[201~\n");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore)) << terminal.screen();
  terminal.type("/save " + path + "\n");
  ASSERT_TRUE(terminal.wait_for("2 messages are in")) << terminal.screen();
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("\x04");
  EXPECT_EQ(terminal.finish(), 0);
  EXPECT_EQ(nlohmann::json::parse(read(path))["messages"][0]["content"], "first\nZ\xC3\xBCrich");
}

TEST(Chat, OnATerminalCtrlCGivesUpWhatIsTypedAndWithNothingTypedTheConversation) {
  Terminal terminal({"run", kModel, "--chat", "-c", "256", "-n", "4", "--no-history"});
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("half a wor");
  ASSERT_TRUE(terminal.wait_for("half a wor"));
  terminal.type("\x03");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore)) << terminal.screen();
  terminal.type("\"\"\"\n");
  ASSERT_TRUE(terminal.wait_for("\x1b[?2004h. "));
  terminal.type("first\n");
  ASSERT_TRUE(terminal.wait_for("\x1b[?2004h. "));
  terminal.type("second");
  ASSERT_TRUE(terminal.wait_for("second"));
  terminal.type("\x03");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore)) << terminal.screen();
  terminal.type("\x03");
  EXPECT_EQ(terminal.finish(), 130);
}

TEST(Chat, OnATerminalWhatIsPastedIsAMessageWhateverItBeginsWith) {
  const TempDir dir;
  const std::string path = (dir / "conversation.json").string();
  Terminal terminal({"run", kModel, "--chat", "-c", "256", "-n", "4", "--no-history"});
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("\x1b[200~/quit\r\"\"\"\x1b[201~\n");
  ASSERT_TRUE(terminal.wait_for(kAsksForMore)) << terminal.screen();
  terminal.type("/save " + path + "\n");
  ASSERT_TRUE(terminal.wait_for("2 messages are in")) << terminal.screen();
  ASSERT_TRUE(terminal.wait_for(kAsksForMore));
  terminal.type("\x04");
  EXPECT_EQ(terminal.finish(), 0);
  EXPECT_EQ(nlohmann::json::parse(read(path))["messages"][0]["content"], "/quit\n\"\"\"");
}

TEST(Chat, BetweenFencesIsOneMessageThroughAPipeToo) {
  const Arguments chat = {"run", kModel, "--chat",        "-n", "6",
                          "-c",  "256",  "--temperature", "0",  "--ignore-eos"};
  const Outcome fenced = odmoe(chat, {.input = "\"\"\"\nGood morrow\nAnd who are you?\n\"\"\"\n"});
  EXPECT_EQ(fenced.exit_code, 0) << fenced.err;
  EXPECT_EQ(fenced.out, odmoe(chat + Arguments{"-p", "Good morrow\nAnd who are you?"}, {.input = ""}).out);
}

TEST(Run, OnATerminalWithoutAPromptSaysWhatToDo) {
  Terminal terminal({"run", kModel});
  EXPECT_EQ(terminal.finish(), 2);
  EXPECT_THAT(terminal.screen(), HasSubstr("-p TEXT"));
}

TEST(Inspect, ShowsShapeSizesAndBudgets) {
  const Outcome outcome = odmoe({"inspect", kModel, "-c", "256"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* text :
       {"qwen2moe", "64, 8 per token", "q8_0", "least that will do", "25% of the experts"}) {
    EXPECT_THAT(outcome.out, HasSubstr(text));
  }
  EXPECT_THAT(outcome.out, Not(HasSubstr("blk.0.")));
}

TEST(Inspect, AllShowsMetadataAndTensors) {
  const std::string text = odmoe({"inspect", kModel, "--all"}).out;
  EXPECT_THAT(text, HasSubstr("general.architecture = "));
  EXPECT_THAT(text, HasSubstr("blk.0.ffn_gate_exps.weight"));
  const auto json = nlohmann::json::parse(odmoe({"inspect", kModel, "--all", "--json"}).out);
  EXPECT_FALSE(json["tensors"].empty());
  EXPECT_TRUE(json["metadata"].contains("general.architecture"));
}

TEST(Inspect, TellsWhatOfAFileIsRefusedWhereOthersDoNotOpenIt) {
  const TempDir dir;
  GgufWriter model = runnable_model({});
  model.set("qwen3moe.zebra_stripes", uint32_t{7});
  const std::vector<float> half = {0.5F};
  for (const char* name : {"blk.0.attn_q.scale", "blk.1.attn_q.scale", "blk.1.attn_k.scale"})
    model.add_values(name, GGML_TYPE_F32, {1}, half);
  const std::string path = dir / "model.gguf";
  model.write(path);
  const Outcome outcome = odmoe({"inspect", path});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("refused: key qwen3moe.zebra_stripes is 7"));
  EXPECT_THAT(outcome.out, HasSubstr("refused: tensor blk.0.attn_q.scale and 2 more"));
  const auto json = nlohmann::json::parse(odmoe({"inspect", path, "--json"}).out);
  EXPECT_EQ(std::ranges::count_if(json["not_used"],
                                  [](const auto& left) { return left["refused"].template get<bool>(); }),
            4);
  std::ofstream(dir / "text.txt") << "the quick brown fox";
  for (const Arguments& command :
       {Arguments{"run", path, "-p", "x"}, {"perplexity", path, "-f", (dir / "text.txt").string()}}) {
    expect_error(odmoe(command), 1, "qwen3moe.zebra_stripes");
  }
  // A server says first where it listens.
  const Outcome served = odmoe({"serve", path, "--port", "0"});
  EXPECT_EQ(served.exit_code, 1);
  EXPECT_THAT(served.err, HasSubstr("key qwen3moe.zebra_stripes is 7"));
}

TEST(Inspect, ItsBudgetsAreAcceptedAndOneMibLessThanTheLeastIsNot) {
  const auto json = nlohmann::json::parse(odmoe({"inspect", kModel, "--json", "-c", "256"}).out);
  const auto least = json["budget_bytes"]["minimum"].get<uint64_t>();
  const auto whole = json["budget_bytes"]["100%"].get<uint64_t>();
  EXPECT_GT(whole, least);
  // What the process itself takes differs a little from run to run.
  constexpr uint64_t kMargin = 8 << 20;
  EXPECT_EQ(odmoe(run({"-p", "x", "--memory", std::to_string(least + kMargin)})).exit_code, 0);
  EXPECT_EQ(odmoe(run({"-p", "x", "--memory", std::to_string(least - kMargin)})).exit_code, 1);
}

TEST(Perplexity, WritesOneLineAndTheLogitsOfEveryPosition) {
  const TempDir dir;
  std::string text;
  for (int i = 0; i < 60; ++i) text += "And the king said unto them, fear not. ";
  const std::string file = dir.write("text", text).string();
  const std::string logits = (dir / "logits").string();
  const Outcome outcome = odmoe({"perplexity", kModel, "-f", file, "-c", "64", "--logits", logits});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("perplexity "));
  EXPECT_EQ(std::ranges::count(outcome.out, '\n'), 1);
  EXPECT_THAT(outcome.err, IsEmpty());
  const int chunks = std::stoi(outcome.out.substr(outcome.out.find('(') + 1));
  EXPECT_GE(chunks, 2);
  constexpr int kVocab = 2048, kContext = 64;
  EXPECT_EQ(std::filesystem::file_size(logits),
            sizeof(float) * kVocab * kContext * static_cast<size_t>(chunks));
}

TEST(Perplexity, LogitsThatCannotBeWrittenAreAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this system";
  const TempDir dir;
  const std::string file = dir.write("text", std::string(2000, 'a')).string();
  expect_error(odmoe({"perplexity", kModel, "-f", file, "-c", "64", "--logits", "/dev/full"}), 1,
               "/dev/full");
  expect_error(odmoe({"perplexity", kModel, "-f", (dir / "none").string()}), 1, "none");
}

TEST(BenchFetch, MeasuresEveryPointAndTheStore) {
  const Arguments fetch = {"bench",    "fetch", kModel,      "--sizes", "64KiB,256KiB",
                           "--depths", "1,2,4", "--seconds", "0.2"};
  const Outcome json = odmoe(fetch + Arguments{"--json"});
  ASSERT_EQ(json.exit_code, 0) << json.err;
  const auto report = nlohmann::json::parse(json.out);
  ASSERT_EQ(report["points"].size(), 6U);
  for (const auto& point : report["points"]) {
    EXPECT_GT(point["bytes_per_second"], 0);
    EXPECT_LE(point["p50_us"], point["p99_us"]);
  }
  EXPECT_GT(report["store"]["bytes_per_second"], 0);
  const Outcome text = odmoe(fetch);
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("reads in flight"));
  EXPECT_THAT(text.out, HasSubstr("█"));
  EXPECT_THAT(text.out, HasSubstr("not tried out"));  // the model is too small to tell
}

TEST(BenchFetch, RefusesOptionsThatHaveNoEffect) {
  expect_error(odmoe({"bench", "fetch", kModel, "--rounds", "2"}), 2, "--rounds");
  expect_error(odmoe({"bench", "infer", kModel, "--depths", "2"}), 2, "--depths");
  expect_error(odmoe({"bench", "fetch", kModel, "--sizes", "5"}), 2, "4KiB");
}

TEST(Mirror, OfAnotherModelIsRefusedInOneLine) {
  TempDir dir;
  std::filesystem::copy_file(kModel, dir / "copy.gguf");
  const Outcome same = odmoe(run({"-p", "x", "--mirror", (dir / "copy.gguf").string()}));
  EXPECT_EQ(same.exit_code, 0) << same.err;
  EXPECT_EQ(same.out, odmoe(run({"-p", "x"})).out);
  std::ofstream(dir / "copy.gguf", std::ios::app) << "more";
  expect_error(odmoe(run({"-p", "x", "--mirror", (dir / "copy.gguf").string()})), 1, "is not a mirror of");
}

}  // namespace
}  // namespace odmoe::testing::cli_test

// `odmoe render` on templates and on a model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cli/process.h"
#include "temp_dir.h"

namespace odmoe::testing::render_cli_test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class RenderCli : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) const {
    const auto path = dir_.path() / name;
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }
  std::string conversation() const {
    return file("c.json", R"({"messages": [{"role": "user", "content": "Hi Zürich"}],
                              "add_generation_prompt": true, "kwargs": {"mood": "glad"}})");
  }

  TempDir dir_;
};

TEST_F(RenderCli, PrintsWhatTheTemplateMakesOfTheConversation) {
  const std::string source =
      file("t.jinja",
           "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
           "{% if add_generation_prompt %}<assistant {{ mood }}>{% endif %}\n");
  const Outcome outcome =
      odmoe({"render", source, "--conversation", conversation(), "--special", "bos_token=<s>"});
  EXPECT_EQ(outcome.out, "<s><user>Hi Zürich<assistant glad>");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
}

TEST_F(RenderCli, UsesTheModelsOwnTemplateAndTokens) {
  const Outcome outcome =
      odmoe({"render", ODMOE_SOURCE_DIR "/models/demo.gguf", "--conversation", conversation()});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("<|im_start|>user\nHi Zürich<|im_end|>\n<|im_start|>assistant\n"));
}

TEST_F(RenderCli, ReadsTheConversationFromStandardInput) {
  const Outcome outcome =
      odmoe({"render", file("t.jinja", "{{ messages[0].content }}{{ strftime_now('%Y') }}"), "--conversation",
             "-", "--now", "2026-07-26T12:34:56"},
            {.input = R"({"messages": [{"role": "user", "content": "Q"}]})"});
  EXPECT_EQ(outcome.out, "Q2026") << outcome.err;
}

TEST_F(RenderCli, AnErrorNamesTheLine) {
  const std::string raises = file("r.jinja", "a\n{{ raise_exception('Roles must alternate') }}");
  const Outcome raised = odmoe({"render", raises, "--conversation", conversation()});
  EXPECT_EQ(raised.exit_code, 1);
  EXPECT_EQ(raised.out, "");
  EXPECT_THAT(raised.err, HasSubstr("line 2 of the chat template: Roles must alternate"));
  const Outcome syntax = odmoe({"render", file("s.jinja", "\n{% if %}"), "--conversation", conversation()});
  EXPECT_EQ(syntax.exit_code, 1);
  EXPECT_THAT(syntax.err, HasSubstr("line 2"));
}

TEST_F(RenderCli, SaysWhatIsWrongWithItsArguments) {
  const std::string source = file("t.jinja", "x");
  EXPECT_EQ(odmoe({"render", source}).exit_code, 2);
  EXPECT_EQ(odmoe({"render", source, "--conversation", conversation(), "--special", "x"}).exit_code, 2);
  EXPECT_EQ(odmoe({"render", source, "--conversation", conversation(), "--now", "today"}).exit_code, 2);
  const Outcome no_json = odmoe({"render", source, "--conversation", file("n.json", "[")});
  EXPECT_EQ(no_json.exit_code, 1);
  EXPECT_THAT(no_json.err, HasSubstr("is no JSON"));
  EXPECT_EQ(odmoe({"render", source, "--conversation", file("m.json", "[]")}).exit_code, 1);
  EXPECT_EQ(odmoe({"render", (dir_.path() / "none").string(), "--conversation", conversation()}).exit_code,
            1);
}

}  // namespace
}  // namespace odmoe::testing::render_cli_test

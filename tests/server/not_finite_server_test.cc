// A model that has one weight that is not a number: who needs it gets an error, the others their answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <array>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/joining_thread.h"
#include "runnable_model.h"
#include "server/server_process.h"
#include "temp_dir.h"

namespace odmoe::testing::not_finite_server_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

struct Answer {
  int status = 0;
  Json body;
};

Answer complete(const ServerProcess& server, const Json& body) {
  httplib::Client client("127.0.0.1", server.port());
  client.set_read_timeout(60);
  const auto answer = client.Post("/v1/completions", body.dump(), "application/json");
  if (!answer) return {};
  return {.status = answer->status, .body = Json::parse(answer->body)};
}

Json request(std::string_view prompt) {
  return {{"prompt", prompt}, {"max_tokens", 24}, {"ignore_eos", true}, {"temperature", 0}};
}

// The token z has an embedding that is not a number.
TEST(NotFiniteServer, OnlyTheRequestsThatNeedTheWeightFail) {
  const TempDir dir;
  const std::string sound = (dir.path() / "sound.gguf").string();
  const std::string damaged = (dir.path() / "damaged.gguf").string();
  GgufWriter writer = runnable_model({.expert_type = GGML_TYPE_Q8_0, .n_embd = 64, .n_ff_exp = 64});
  writer.write(sound);
  const std::vector<std::string> options = {"--sessions", "3", "--context", "256"};
  Json wanted;
  Json bad_token;
  {
    const ServerProcess server(options, true, sound);
    wanted = complete(server, request("abcabc")).body["choices"][0]["text"];
    httplib::Client client("127.0.0.1", server.port());
    const auto tokens = client.Post("/tokenize", R"({"content":"z"})", "application/json");
    ASSERT_TRUE(tokens);
    bad_token = Json::parse(tokens->body)["tokens"].back();
  }
  const auto bad =
      std::bit_cast<std::array<std::byte, sizeof(float)>>(std::numeric_limits<float>::quiet_NaN());
  writer.damage("token_embd.weight", bad_token.get<uint64_t>() * 64 * sizeof(float), bad).write(damaged);
  const ServerProcess server(options, true, damaged);
  for (int round = 0; round < 3; ++round) {
    std::array<Answer, 3> answers;
    {
      // The second fails while the others write, in its prompt or, made to say z, in a step with them.
      std::vector<JoiningThread> clients;
      clients.emplace_back([&] { answers[0] = complete(server, request("abcabc")); });
      clients.emplace_back([&] {
        Json failing = request(round == 0 ? "abcz" : "abc");
        failing["logit_bias"] = {{bad_token.dump(), 100}};
        answers[1] = complete(server, failing);
      });
      clients.emplace_back([&] { answers[2] = complete(server, request("abcabc")); });
    }
    EXPECT_EQ(answers[1].status, 500) << answers[1].body.dump();
    EXPECT_EQ(answers[1].body["error"]["type"], "server_error");
    EXPECT_THAT(answers[1].body["error"]["message"].get<std::string>(),
                AllOf(HasSubstr("not finite"), HasSubstr("the embedding")));
    for (const Answer& fine : {answers[0], answers[2]}) {
      EXPECT_EQ(fine.status, 200) << fine.body.dump();
      EXPECT_EQ(fine.body["choices"][0]["text"], wanted);
    }
  }
}

}  // namespace
}  // namespace odmoe::testing::not_finite_server_test

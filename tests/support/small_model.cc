#include "small_model.h"

#include "odmoe/format.h"

namespace odmoe::testing {
namespace {

// What byte-level BPE writes for a byte: itself where it is printable, or else a character from U+0100 on.
std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool plain = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const int character = plain ? byte : next++;
    if (character < 0x80) {
      tokens.emplace_back(1, static_cast<char>(character));
    } else {
      tokens.push_back(
          {static_cast<char>(0xC0 | (character >> 6)), static_cast<char>(0x80 | (character & 0x3F))});
    }
  }
  return tokens;
}

void add_layer(GgufWriter& writer, int layer, const SmallModelOptions& options) {
  const int64_t d = options.n_embd;
  const int64_t f = options.n_ff_exp;
  const int64_t e = options.n_expert;
  const auto name = [layer](std::string_view part) { return odmoe::format("blk.{}.{}.weight", layer, part); };
  writer.add_tensor(name("attn_norm"), GGML_TYPE_F32, {d});
  if (layer == 0) {
    writer.add_tensor(name("ffn_gate"), GGML_TYPE_F16, {d, 2 * f});
    writer.add_tensor(name("ffn_up"), GGML_TYPE_F16, {d, 2 * f});
    writer.add_tensor(name("ffn_down"), GGML_TYPE_F16, {2 * f, d});
    return;
  }
  writer.add_tensor(name("ffn_gate_inp"), GGML_TYPE_F32, {d, e});
  if (options.merge_gate_up) {
    writer.add_tensor(name("ffn_gate_up_exps"), options.expert_type, {d, 2 * f, e});
  } else {
    writer.add_tensor(name("ffn_gate_exps"), options.expert_type, {d, f, e});
    writer.add_tensor(name("ffn_up_exps"), options.expert_type, {d, f, e});
  }
  writer.add_tensor(name("ffn_down_exps"), options.expert_type, {f, d, e});
}

}  // namespace

void add_tokenizer(GgufWriter& writer, const SmallModelOptions& options) {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  if (options.all_bytes) {
    tokens = byte_tokens();
  } else {
    for (int i = 0; i < options.n_vocab - 4; ++i) tokens.emplace_back(1, static_cast<char>('a' + i));
  }
  for (int i = 0; i < options.n_more; ++i) tokens.push_back("more" + std::to_string(i));
  types.assign(tokens.size(), 1);
  for (const char* text : {"ab", "abc", "<|im_end|>", "<|endoftext|>"}) {
    tokens.emplace_back(text);
    types.push_back(text[0] == '<' ? 3 : 1);
  }
  const size_t n_vocab = tokens.size();
  writer.set("tokenizer.ggml.model", "gpt2")
      .set("tokenizer.ggml.pre", "qwen2")
      .set_array("tokenizer.ggml.tokens", tokens)
      .set_array("tokenizer.ggml.token_type", types)
      .set_array("tokenizer.ggml.merges", std::vector<std::string>{"a b", "ab c"})
      .set_array("tokenizer.ggml.scores", std::vector<float>(n_vocab, -1.5F))
      .set("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(n_vocab - 1))
      .set("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(n_vocab - 1))
      .set("tokenizer.ggml.add_bos_token", false)
      .set("tokenizer.chat_template",
           "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}{% "
           "endfor %}");
}

GgufWriter small_model(const SmallModelOptions& options) {
  GgufWriter writer(options.version);
  writer.set("general.architecture", "deepseek2")
      .set("general.name", "small")
      .set("general.quantization_version", uint32_t{2})
      .set("deepseek2.block_count", static_cast<uint32_t>(options.n_layer))
      .set("deepseek2.context_length", uint64_t{128})
      .set("deepseek2.embedding_length", static_cast<int32_t>(options.n_embd))
      .set("deepseek2.attention.layer_norm_rms_epsilon", 1e-6F)
      .set("deepseek2.rope.freq_base", 10000.0)
      .set("deepseek2.expert_count", static_cast<uint32_t>(options.n_expert))
      .set("deepseek2.expert_used_count", uint16_t{2})
      .set("deepseek2.expert_weights_norm", true);
  add_tokenizer(writer, options);
  writer.add_tensor("token_embd.weight", GGML_TYPE_Q8_0,
                    {options.n_embd, options.all_bytes ? 260 : options.n_vocab});
  for (int i = 0; i < options.n_layer; ++i) add_layer(writer, i, options);
  writer.add_tensor("output_norm.weight", GGML_TYPE_F32, {options.n_embd});
  return writer;
}

}  // namespace odmoe::testing

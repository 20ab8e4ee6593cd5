#include "engine/collect.h"

#include <xxhash.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "engine/engine_impl.h"
#include "engine/routed_model.h"
#include "engine/routing_recorder.h"

namespace odmoe {
namespace {

// Less than this shows no routing that depends on text.
constexpr size_t kLeastDocument = 2;

using Document = std::vector<Token>;

// The corpus in pieces, none over two texts.  What ends a text (an end token) ends a document, too.
std::vector<Document> cut_documents(const EngineImpl& engine, const CollectOptions& options) {
  const std::vector<Token> beginning = engine.encode("", true, false);
  const auto most = static_cast<size_t>(options.document_tokens - options.n_generate);
  std::vector<Document> documents;
  for (const CorpusText& text : options.corpus) {
    Document document = beginning;
    const auto end = [&] {
      if (document.size() >= beginning.size() + kLeastDocument) documents.push_back(document);
      document = beginning;
    };
    for (const Token token : engine.encode(text.text, false, true)) {
      document.push_back(token);
      if (document.size() >= most || engine.tokenizer().is_end(token)) end();
    }
    end();
  }
  return documents;
}

// So many of them, spread evenly, that there are n_token tokens; all if that is too few.
std::vector<Document> spread(std::vector<Document> documents, const CollectOptions& options) {
  const size_t n = documents.size();
  const auto pick = [&](size_t i, size_t count) -> Document& { return documents[i * n / count]; };
  const auto enough = [&](size_t count) {
    int64_t n_token = 0;
    for (size_t i = 0; i < count; ++i) {
      n_token += static_cast<int64_t>(pick(i, count).size()) + options.n_generate;
    }
    return n_token >= options.n_token;
  };
  size_t count = std::min(
      n, static_cast<size_t>((options.n_token + options.document_tokens - 1) / options.document_tokens));
  while (count < n && !enough(count)) ++count;
  std::vector<Document> chosen;
  chosen.reserve(count);
  for (size_t i = 0; i < count; ++i) chosen.push_back(std::move(pick(i, count)));
  return chosen;
}

Status validate(const EngineImpl& engine, const CollectOptions& options) {
  const int32_t context = engine.options().context;
  if (options.n_token < 1) return fail(ErrorKind::kUsage, "--tokens must be at least 1");
  if (options.document_tokens < 8 || options.document_tokens > context) {
    return fail(ErrorKind::kUsage, "documents of {} tokens: from 8 to the context of {} are possible",
                options.document_tokens, context);
  }
  if (options.n_generate < 0 || options.n_generate > options.document_tokens - 4) {
    return fail(ErrorKind::kUsage, "{} tokens to generate in documents of {}: at most {} are possible",
                options.n_generate, options.document_tokens, options.document_tokens - 4);
  }
  return {};
}

class Run {
 public:
  Run(EngineImpl& engine, const CollectOptions& options) : engine_(&engine), options_(&options) {}
  ~Run() {
    if (recorder_ != nullptr) engine_->set_routing_observer(nullptr);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // Cuts the corpus and lets the recorder look on.
  Status begin(RoutingRecorder& recorder) {
    documents_ = spread(cut_documents(*engine_, *options_), *options_);
    if (documents_.empty()) {
      return fail(ErrorKind::kUsage, "there is too little text to record: not one document of {} tokens",
                  kLeastDocument);
    }
    for (const Document& document : documents_) {
      n_total_ += static_cast<int64_t>(document.size()) + options_->n_generate;
    }
    ODMOE_ASSIGN_OR_RETURN(session_, engine_->new_session());
    recorder_ = &recorder;
    engine_->set_routing_observer(&recorder);
    return {};
  }

  size_t n_document() const { return documents_.size(); }

  // kInterrupted also when `progress` says so, after the document.
  Status record(size_t index) {
    const Document& document = documents_[index];
    recorder_->begin_document(static_cast<int32_t>(index));
    session_->truncate(0);
    const int64_t before = recorder_->shard().n_token;
    if (options_->n_generate == 0) {
      ODMOE_RETURN_IF_ERROR(session_->evaluate(document));
    } else {
      GenerateOptions generate;
      generate.max_tokens = options_->n_generate;
      generate.sampling.seed = options_->seed + index;
      ODMOE_ASSIGN_OR_RETURN(const GenerateResult result,
                             engine_->generate(*session_, document, generate, {}));
      if (result.finish == FinishReason::kInterrupted) return fail(ErrorKind::kInterrupted, "interrupted");
    }
    n_done_ += recorder_->shard().n_token - before;
    return {};
  }
  bool go_on(int64_t n_before) const {
    return !options_->progress || options_->progress(std::min(n_before + n_done_, n_total_), n_total_);
  }

 private:
  EngineImpl* engine_;
  const CollectOptions* options_;
  RoutingRecorder* recorder_ = nullptr;  // since it looks on
  std::unique_ptr<Session> session_;
  std::vector<Document> documents_;
  int64_t n_total_ = 0, n_done_ = 0;
};

Collection describe(const EngineImpl& engine, const CollectOptions& options, RoutedModel model) {
  Collection collection;
  collection.tool = options.tool;
  collection.model = std::move(model);
  collection.states = options.states;
  collection.source = options.n_generate > 0 ? "generation" : "corpus";
  for (const CorpusText& text : options.corpus) {
    collection.corpus.push_back(
        {.name = text.name,
         .bytes = text.text.size(),
         .hash = odmoe::format("{:016x}", XXH3_64bits(text.text.data(), text.text.size()))});
  }
  collection.n_token_wanted = options.n_token;
  collection.document_tokens = options.document_tokens;
  collection.chunk = engine.options().chunk;
  collection.threads = engine.options().threads;
  collection.seed = options.seed;
  collection.n_generate = options.n_generate;
  return collection;
}

// A folder that was begun with other options or texts is refused: its shards would not belong together.
Status check_same(const std::filesystem::path& folder, const Collection& begun, const Collection& wanted) {
  const auto differs = [&](std::string_view what) -> Status {
    return fail(ErrorKind::kUsage,
                "{} holds data that was collected with {}; delete it or give another --output",
                folder.string(), what);
  };
  if (begun.model.fingerprint != wanted.model.fingerprint) return differs("another model");
  if (begun.source != wanted.source || begun.n_generate != wanted.n_generate || begun.seed != wanted.seed) {
    return differs("another --generate or --seed");
  }
  if (begun.corpus != wanted.corpus) return differs("another corpus");
  if (begun.n_token_wanted != wanted.n_token_wanted) {
    return differs(odmoe::format("--tokens {}", begun.n_token_wanted));
  }
  if (begun.document_tokens != wanted.document_tokens) {
    return differs(odmoe::format("--document-tokens {}", begun.document_tokens));
  }
  if (begun.chunk != wanted.chunk) return differs(odmoe::format("--chunk {}", begun.chunk));
  if (begun.threads != wanted.threads) return differs(odmoe::format("--threads {}", begun.threads));
  if (begun.states != wanted.states) return differs("other states");
  return {};
}

}  // namespace

Result<Collection> collect(Engine& any_engine, const CollectOptions& options) {
  auto& engine = static_cast<EngineImpl&>(any_engine);  // there is no other kind
  ODMOE_RETURN_IF_ERROR(validate(engine, options));
  ODMOE_ASSIGN_OR_RETURN(RoutedModelData data, read_routed_model(engine.options().model));
  Collection collection = describe(engine, options, data.model);

  std::error_code error;
  std::filesystem::create_directories(options.folder, error);
  if (error) return fail(ErrorKind::kIo, "cannot make {}: {}", options.folder.string(), error.message());
  auto begun = read_collection(options.folder);
  if (begun.has_value()) {
    ODMOE_RETURN_IF_ERROR(check_same(options.folder, *begun, collection));
    collection = std::move(*begun);
    if (collection.complete) return collection;
  } else if (begun.error().kind != ErrorKind::kNotFound) {
    return std::unexpected(begun.error());
  } else {
    ODMOE_RETURN_IF_ERROR(write_routers(options.folder, data.model, data.routers));
    ODMOE_RETURN_IF_ERROR(write_collection(options.folder, collection));
  }

  const int64_t n_before = collection.n_token;
  const uint64_t clamped_before = collection.n_clamped;
  const uint64_t n_state =
      (options.states.router_input ? 1U : 0U) + (options.states.attention_input ? 1U : 0U);
  const uint64_t token_bytes = 2 * static_cast<uint64_t>(collection.model.layers.size()) *
                               (n_state * static_cast<uint64_t>(collection.model.n_embd) +
                                2 * static_cast<uint64_t>(collection.model.n_expert_used));
  RoutingRecorder recorder(collection.model, options.states);
  Run run(engine, options);
  ODMOE_RETURN_IF_ERROR(run.begin(recorder));
  // A collection that says more documents than the same corpus has was not written by us.
  if (std::cmp_greater(collection.n_document, run.n_document())) {
    return fail(ErrorKind::kBadFile, "{} holds more documents than the corpus; delete it and collect again",
                options.folder.string());
  }
  const auto interrupted = [&] {
    return fail(ErrorKind::kInterrupted,
                "interrupted with {} of about {} tokens in {}; the same command goes on from there",
                collection.n_token, options.n_token, options.folder.string());
  };
  for (auto i = static_cast<size_t>(collection.n_document); i < run.n_document(); ++i) {
    const Status status = run.record(i);
    if (!status.has_value() && status.error().kind == ErrorKind::kInterrupted) return interrupted();
    ODMOE_RETURN_IF_ERROR(status);
    const bool last = i + 1 == run.n_document();
    if (last || static_cast<uint64_t>(recorder.shard().n_token) * token_bytes >= options.shard_bytes) {
      collection.n_clamped = clamped_before + recorder.n_clamped();
      collection.complete = last;
      ODMOE_RETURN_IF_ERROR(append_shard(options.folder, collection, recorder.take()));
    }
    if (!run.go_on(n_before) && !last) return interrupted();
  }
  return collection;
}

Result<std::vector<RoutingShard>> collect_routing(Engine& any_engine, const CollectOptions& options) {
  auto& engine = static_cast<EngineImpl&>(any_engine);
  ODMOE_RETURN_IF_ERROR(validate(engine, options));
  ODMOE_ASSIGN_OR_RETURN(RoutedModelData data, read_routed_model(engine.options().model));
  RoutingRecorder recorder(data.model, {.router_input = false, .attention_input = false, .embedding = false});
  Run run(engine, options);
  ODMOE_RETURN_IF_ERROR(run.begin(recorder));
  std::vector<RoutingShard> documents;
  for (size_t i = 0; i < run.n_document(); ++i) {
    const Status status = run.record(i);
    if (!status.has_value() && status.error().kind == ErrorKind::kInterrupted && !documents.empty()) break;
    ODMOE_RETURN_IF_ERROR(status);
    documents.push_back(recorder.take());
    if (!run.go_on(0)) break;
  }
  return documents;
}

}  // namespace odmoe

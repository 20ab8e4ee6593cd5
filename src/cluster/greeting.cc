#include "cluster/greeting.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace odmoe {
namespace {

using Json = nlohmann::json;

// What another rank of another version may have written.
template <typename T, typename Read>
Result<T> read_json(std::string_view text, std::string_view what, const Read& read) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  T value;
  bool understood = json.is_object();
  const auto member = [&](const char* name, auto& into) {
    using Member = std::remove_reference_t<decltype(into)>;
    const auto found = understood ? json.find(name) : json.end();
    if (!understood || found == json.end()) return void(understood = false);
    if constexpr (std::is_same_v<Member, std::string>) {
      understood = found->is_string();
      if (understood) into = found->template get<std::string>();
    } else if constexpr (std::is_same_v<Member, bool>) {
      understood = found->is_boolean();
      if (understood) into = found->template get<bool>();
    } else if constexpr (std::is_integral_v<Member>) {
      understood = found->is_number_integer();
      if (understood) into = found->template get<Member>();
    } else {
      into = *found;
    }
  };
  read(value, member);
  if (!understood) {
    return fail(ErrorKind::kUnsupported, "{} is not understood: are all ranks of one version of odmoe?",
                what);
  }
  return value;
}

std::string kernel_text(const Kernels& kernels) {
  return odmoe::format("ggml {} on {} ({})", kernels.ggml, kernels.device, kernels.features);
}

}  // namespace

std::string Begin::json() const {
  return Json{{"chunk", chunk}, {"sessions", sessions}, {"prompts", prompts}}.dump();
}

Result<Begin> Begin::read(std::string_view json) {
  return read_json<Begin>(json, "what the head is going to run", [](Begin& begin, const auto& member) {
    member("chunk", begin.chunk);
    member("sessions", begin.sessions);
    member("prompts", begin.prompts);
  });
}

std::string Hello::json() const {
  return Json{{"error", error},
              {"version", version},
              {"path", path},
              {"model", model},
              {"ggml", kernels.ggml},
              {"device", kernels.device},
              {"features", kernels.features},
              {"products", kernels.products},
              {"memory_bytes", memory_bytes},
              {"drive_bytes_per_second", drive_bytes_per_second},
              {"takes_what_is_available", takes_what_is_available},
              {"uses", uses},
              {"share", share ? share->rank + 1 : 0},
              {"share_sizes", share ? share->sizes : std::vector<uint64_t>()},
              {"share_uses", share ? share->uses : ""}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);  // paths may have any bytes
}

Result<Hello> Hello::read(std::string_view json) {
  int32_t part = 0;
  Json sizes;
  ExpertShare share;
  const auto read = [&](Hello& hello, const auto& member) {
    member("error", hello.error);
    member("version", hello.version);
    member("path", hello.path);
    member("model", hello.model);
    member("ggml", hello.kernels.ggml);
    member("device", hello.kernels.device);
    member("features", hello.kernels.features);
    member("products", hello.kernels.products);
    member("memory_bytes", hello.memory_bytes);
    member("drive_bytes_per_second", hello.drive_bytes_per_second);
    member("takes_what_is_available", hello.takes_what_is_available);
    member("uses", hello.uses);
    member("share", part);
    member("share_sizes", sizes);
    member("share_uses", share.uses);
  };
  ODMOE_ASSIGN_OR_RETURN(Hello hello, (read_json<Hello>(json, "how a rank introduces itself", read)));
  if (part == 0) return hello;
  share.rank = part - 1;
  share.model = hello.model;
  if (!sizes.is_array() ||
      !std::ranges::all_of(sizes, [](const Json& size) { return size.is_number_unsigned(); }) || part < 1 ||
      std::cmp_greater(part, sizes.size()) || sizes.size() > ExpertShare::kMaxParts) {
    return fail(ErrorKind::kUnsupported, "the share of a rank is not understood");
  }
  for (const Json& size : sizes) share.sizes.push_back(size.get<uint64_t>());
  hello.share = std::move(share);
  return hello;
}

std::string RankList::json() const {
  Json list = Json::array();
  for (const OwnershipFacts::Rank& rank : ranks) {
    list.push_back(rank.memory_bytes);
    list.push_back(rank.drive_bytes_per_second);
  }
  return Json{{"numbers", numbers}, {"ranks", list}, {"expert_bytes", expert_bytes}, {"owners", owners}}
      .dump();
}

Result<RankList> RankList::read(std::string_view json) {
  Json list, numbers;
  ODMOE_ASSIGN_OR_RETURN(RankList setup, (read_json<RankList>(json, "what the head says of all ranks",
                                                              [&](RankList& value, const auto& member) {
                                                                member("numbers", numbers);
                                                                member("ranks", list);
                                                                member("expert_bytes", value.expert_bytes);
                                                                member("owners", value.owners);
                                                              })));
  const auto is_list = [](const Json& all) {
    return all.is_array() &&
           std::ranges::all_of(all, [](const Json& one) { return one.is_number_unsigned(); });
  };
  if (!is_list(list) || !is_list(numbers) || list.empty() || list.size() != 2 * numbers.size() ||
      numbers.size() > ExpertShare::kMaxParts) {
    return fail(ErrorKind::kUnsupported, "the head's list of ranks is not understood");
  }
  for (const Json& number : numbers) setup.numbers.push_back(number.get<int>());
  for (size_t i = 0; i < list.size(); i += 2) {
    setup.ranks.push_back(
        {.memory_bytes = list[i].get<uint64_t>(), .drive_bytes_per_second = list[i + 1].get<uint64_t>()});
  }
  return setup;
}

Status check_hellos(std::span<const Hello> hellos, std::span<const std::string> names, bool mixed_allowed) {
  const Hello& head = hellos.front();
  for (size_t i = 1; i < hellos.size(); ++i) {
    const Hello& other = hellos[i];
    if (!other.error.empty()) return fail(ErrorKind::kUnsupported, "{}: {}", names[i], other.error);
    if (other.version != head.version) {
      return fail(ErrorKind::kUnsupported, "{} runs odmoe {}, but {} runs {}: all ranks need the same",
                  names[i], other.version, names[0], head.version);
    }
    if (other.model != head.model) {
      return fail(ErrorKind::kUnsupported,
                  "{} has another model in {} than {} in {}: copy the same files to both", names[i],
                  other.path, names[0], head.path);
    }
    if (other.uses != head.uses) {
      return fail(
          ErrorKind::kUnsupported,
          "{} and {} divide the experts by different recorded uses: give both the same trace (--balance)",
          names[i], names[0]);
    }
    const bool alike = other.kernels.ggml == head.kernels.ggml &&
                       other.kernels.features == head.kernels.features &&
                       other.kernels.products == head.kernels.products;
    if (!alike && !mixed_allowed) {
      return fail(
          ErrorKind::kUnsupported,
          "{} would round otherwise than {}: {} there, {} here{}; --allow-mixed lets them work together, "
          "and results may then differ from those of one machine",
          names[i], names[0], kernel_text(other.kernels), kernel_text(head.kernels),
          other.kernels.products == head.kernels.products ? "" : " (products of a fixed matrix differ)");
    }
  }
  return {};
}

Status check_memory(std::span<const Hello> hellos, std::span<const std::string> hosts) {
  for (size_t i = 0; i < hellos.size(); ++i) {
    if (!hellos[i].takes_what_is_available) continue;
    for (size_t j = 0; j < hellos.size(); ++j) {
      if (i == j || hosts[i] != hosts[j]) continue;
      return fail(
          ErrorKind::kUsage,
          "ranks {} and {} share the host {}: give each its part of the memory there, --memory 20GiB say",
          std::min(i, j), std::max(i, j), hosts[i]);
    }
  }
  return {};
}

}  // namespace odmoe

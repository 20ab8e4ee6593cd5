// What was done and what it cost: the object that `--stats` writes.  Counters run since the engine was
// opened.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace odmoe {

// How the budget is divided, of the host's memory.  All bytes.
struct MemoryPlan {
  uint64_t budget_bytes = 0;    // what --memory resolves to, for the whole process
  uint64_t dense_bytes = 0;     // embeddings, attention, norms, routers, shared experts
  uint64_t kv_bytes = 0;        // KV caches of all sessions
  uint64_t arena_bytes = 0;     // slots of routed experts
  uint64_t reserved_bytes = 0;  // EngineOptions::reserved_bytes and reserved_bytes_per_token
  uint64_t buffer_bytes = 0;  // activations, compute buffers, reads in flight, vocabulary, the program itself
  uint64_t minimum_bytes = 0;  // the smallest budget that would do with these options
  uint64_t expert_bytes = 0;   // all routed experts, resident or not, as they are in the files
  int32_t n_slot = 0;          // experts that fit in the arena
  int32_t n_expert_total = 0;  // routed experts of all layers

  // What is in the memory of a device that has its own, and computes the dense part there: nothing of it is
  // in the figures above.  All 0 where it is computed in the host's memory.
  struct Device {
    std::string name;  // "Vulkan0"
    // Its memory is of the host's: what is taken there counts in budget_bytes and minimum_bytes.
    bool shares_host_memory = false;
    uint64_t available_bytes = 0;  // what may be taken of it (EngineOptions); 0: it does not say
    uint64_t dense_bytes = 0, kv_bytes = 0, buffer_bytes = 0;
    uint64_t arena_bytes = 0;    // slots of routed experts (ExpertPlacement::kDevice), in whole slots
    int32_t n_slot = 0;          // experts that fit in it
    uint64_t minimum_bytes = 0;  // the least available_bytes that would do with these options
    uint64_t bytes() const { return dense_bytes + kv_bytes + buffer_bytes + arena_bytes; }
    uint64_t shared_bytes() const { return shares_host_memory ? bytes() : 0; }
  };
  Device device;
};

// What goes between the host and a device that has memory of its own (MemoryPlan::Device).
struct DeviceTraffic {
  uint64_t graphs = 0, operations = 0;  // launched, and what they are made of
  uint64_t waits = 0;                   // of the host for the device, or for bytes on their way
  uint64_t sent_bytes = 0, fetched_bytes = 0;
  // Time of the host, none of it twice: until bytes to go and to come were given to the driver, until graphs
  // were, and until they had ended and what was to be fetched was there.
  uint64_t exchange_us = 0, launch_us = 0, wait_us = 0;

  bool operator==(const DeviceTraffic&) const = default;
  DeviceTraffic& operator+=(const DeviceTraffic& more) {
    for (const auto counter : kCounters) this->*counter += more.*counter;
    return *this;
  }
  // What came after `earlier`, which the same counters were before.
  DeviceTraffic since(const DeviceTraffic& earlier) const {
    DeviceTraffic traffic = *this;
    for (const auto counter : kCounters) traffic.*counter -= earlier.*counter;
    return traffic;
  }

 private:
  static constexpr uint64_t DeviceTraffic::* kCounters[] = {
      &DeviceTraffic::graphs,     &DeviceTraffic::operations,    &DeviceTraffic::waits,
      &DeviceTraffic::sent_bytes, &DeviceTraffic::fetched_bytes, &DeviceTraffic::exchange_us,
      &DeviceTraffic::launch_us,  &DeviceTraffic::wait_us};
};

struct Stats {
  MemoryPlan memory;
  uint64_t peak_resident_bytes = 0;
  // How the memory is divided now, where it is adapted (MemoryBudget): memory says what was planned for full
  // KV caches.
  uint64_t arena_bytes_now = 0;
  int32_t n_slot_now = 0;
  uint64_t kv_bytes_in_use = 0;  // of all sessions; the rest of memory.kv_bytes serves experts meanwhile
  uint64_t arena_resizes = 0;

  struct Phase {
    uint64_t tokens = 0;
    // Passes through the model that these took: chunks of a prompt, or a token each of several sessions.
    uint64_t steps = 0;
    uint64_t experts_read = 0;  // because they were wanted and not there, or foreseen
    double seconds = 0;
    double stall_seconds = 0;  // of them, compute waited for reads
    uint64_t read_bytes = 0;   // demand reads
    uint64_t prefetch_bytes = 0;
    // Of dense weights, from memory: a matrix counts each time it is multiplied, with however many tokens.
    uint64_t dense_read_bytes = 0;
    DeviceTraffic device;  // all of it
    // Of it what layers of experts took: from the launch of what comes before the experts, until what they
    // made is on its way back.  `layers`: how many there were, of all steps together.
    DeviceTraffic device_layers;
    uint64_t layers = 0;
    double tokens_per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
  };
  Phase prefill;
  double ttft_ms = 0;  // of the last generation: from its start to its first token
  Phase decode;

  struct Experts {
    uint64_t demands = 0, hits = 0, late_hits = 0, misses = 0, evictions = 0;
    int32_t working_set_experts = 0;  // distinct experts used
    double hit_rate() const {
      return demands > 0 ? static_cast<double>(hits) / static_cast<double>(demands) : 0;
    }
  } experts;

  // Of the arena in a device's own memory, where there is one: Experts counts what it had to ask the host's
  // for.
  struct DeviceExperts {
    uint64_t hits = 0;                      // experts that were there when they were wanted
    uint64_t copies = 0, copied_bytes = 0;  // from the host
    uint64_t evictions = 0;
    uint64_t evicted_to_host = 0;  // of these, those that the host's arena had then: no read brings them back
    int32_t resident = 0;          // there now
  } device_experts;

  struct Io {
    // A drive, or a copy of the model on it: the model itself first, then its mirrors.
    struct Copy {
      std::string path;
      uint64_t read_bytes = 0;             // asked of it
      double probed_bytes_per_second = 0;  // 0: it was not tried out
      bool failed = false;                 // it is read no more, since its reads failed
    };
    std::vector<Copy> copies;
    std::string reader;       // "io_uring" or "pread"
    uint32_t depth = 0;       // most reads in flight
    uint32_t read_bytes = 0;  // size of a read, at most
    uint64_t demand_read_bytes = 0, prefetch_read_bytes = 0;
    uint64_t fill_read_bytes = 0;      // of experts that nobody had asked for, into free slots
    uint64_t experts_filled = 0;       // what these reads brought,
    uint64_t experts_filled_used = 0;  // and how many were asked for afterwards, before they were evicted
    uint64_t total_read_bytes() const { return demand_read_bytes + prefetch_read_bytes + fill_read_bytes; }
    uint64_t reads = 0, read_retries = 0;
    uint64_t stall_us = 0;      // compute waited for reads
    uint64_t read_busy_us = 0;  // at least one read was in flight
    double read_bytes_per_second() const {
      return read_busy_us > 0
                 ? static_cast<double>(total_read_bytes()) * 1e6 / static_cast<double>(read_busy_us)
                 : 0;
    }
    // What the drives of all copies that are read can do together; 0 when one of them was not tried out.
    double probed_bytes_per_second() const {
      double sum = 0;
      for (const Copy& copy : copies) {
        if (copy.failed) continue;
        if (copy.probed_bytes_per_second <= 0) return 0;
        sum += copy.probed_bytes_per_second;
      }
      return sum;
    }
  } io;

  // One of the machines (ranks of MPI) that hold the experts together.
  struct Rank {
    int32_t rank = 0;  // 0: the head, whose own figures are also those of experts and io
    std::string host;
    int32_t n_expert = 0;  // its own, of all layers
    uint64_t arena_bytes = 0;
    uint64_t demands = 0, hits = 0, late_hits = 0, misses = 0;
    uint64_t prefetched = 0;                      // experts read because they were guessed
    uint64_t read_bytes = 0;                      // asked of its drive
    uint64_t stall_us = 0;                        // it waited for reads
    uint64_t wait_us = 0;                         // the head waited for it, having nothing else to do
    uint64_t sent_bytes = 0, received_bytes = 0;  // between the head and it, for layers
  };
  std::vector<Rank> ranks;  // those that are there, in order; empty: this machine has all experts

  // The most that decoding could reach: compute alone, and the drive alone, reading what was wanted and not
  // there (demand reads, and of prefetched experts as many as were used) at the bandwidth that was found
  // when it was tried out, or else the one that this run's reads had.  0: not known yet (nothing decoded,
  // nothing read).
  struct Roofline {
    double compute_tokens_per_second = 0;
    double io_tokens_per_second = 0;
    double fraction = 0;  // decode.tokens_per_second over the smaller of the two that are known
  };
  Roofline roofline() const;

  // Guesses of the experts of layers to come while decoding.
  struct Predictor {
    std::string name = "none";
    // By how many layers (1, 2, ...) the guess was ahead: experts that routers chose, and those of them that
    // had been guessed.
    struct Ahead {
      uint64_t wanted = 0, foreseen = 0;
    };
    std::vector<Ahead> ahead;
    uint64_t prefetched = 0;       // experts read because they were guessed
    uint64_t prefetched_used = 0;  // of them, asked for afterwards, before they were evicted
    uint64_t prefetched_late = 0;  // of those, not wholly there yet
    // The governor's verdict on prefetching: whether it is on, and then whether with many reads in flight at
    // a time rather than few; decoding's speed with it over that without, by the trials (0: not known yet),
    // and how many trials there were.
    bool prefetching = false;
    bool many_reads = false;
    double gain = 0;
    uint64_t trials = 0;
  } predictor;

  struct Routing {
    std::vector<std::vector<uint64_t>> expert_counts;  // [layer][expert]; empty for a dense layer
    uint64_t total_selections = 0;
    double load_balance_coefficient = 0;  // 1 + std/mean of the counts, mean over the layers with experts
    double auxiliary_loss = 0;            // E * sum_e f_e * P_e, mean over the layers with experts
  } routing;
};

// Where an expert is: not in memory, being read into memory, or in memory.
enum class Residency : uint8_t { kAbsent, kLoading, kResident };

// What an observer sees of an expert.
struct ExpertView {
  Residency residency = Residency::kAbsent;
  uint32_t uses = 0;  // how often it was asked for since the engine was opened; never 0 again once it was
  bool operator==(const ExpertView&) const = default;
};

// The JSON object of design "--stats", pretty-printed, ending in a newline.
std::string stats_json(const Stats& stats);

}  // namespace odmoe

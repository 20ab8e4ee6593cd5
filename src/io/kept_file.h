// A file of things that were found out once and are kept for later runs, each under a key.
//
//   {"version": 1, "drives": {"nvme0n1 ... io_uring 6.12.0": {"depth": 16, "read_bytes": 524288, ...}}}
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "odmoe/result.h"

namespace odmoe {

// Immutable, so thread-safe; what it reads and writes may be another process's at the same time.
class KeptFile {
 public:
  // `member` of the file's object has the entries; `what` they are, for messages.  The file need not be
  // there.
  KeptFile(std::filesystem::path file, std::string member, std::string what)
      : file_(std::move(file)), member_(std::move(member)), what_(std::move(what)) {}

  // An object; nothing when there is no such file or entry, or it is not one of ours, or damaged: what it
  // would say is then found out anew.
  std::optional<nlohmann::ordered_json> load(const std::string& key) const;

  // Adds or replaces an entry, keeping the others (but for the oldest of very many), and makes the folders
  // that are missing.  Readers and other writers see the old file or the new one.  kIo when it cannot be
  // written.
  Status save(const std::string& key, nlohmann::ordered_json entry) const;
  // The entries go whose keys begin so; as above.
  Status forget(const std::string& beginning) const;

 private:
  nlohmann::ordered_json entries() const;  // empty when it cannot be read
  Status write(nlohmann::ordered_json all) const;

  std::filesystem::path file_;
  std::string member_, what_;
};

// A number of an entry, in [least, most]; nothing for anything else.
std::optional<double> kept_number(const nlohmann::ordered_json& entry, const char* name, double least,
                                  double most);

}  // namespace odmoe

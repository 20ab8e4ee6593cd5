// What an interrupted conversion had finished, so that the next goes on from there.
//
// A file of lines of JSON.  The first says what is being made; each other names a file that is complete and
// safe on the drive.  A line that was cut short by the end of the process, and what follows it, counts for
// nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/output_file.h"
#include "odmoe/result.h"

namespace odmoe {

struct JournalEntry {
  uint64_t bytes = 0;               // of the file
  std::vector<uint64_t> checksums;  // of its sections (PlannedFile::n_section), in order
};

// One owner.
class Journal {
 public:
  // What the journal at `path` says, by file; nothing when there is no journal, or one of something else.
  static std::map<std::string, JournalEntry> read(const std::filesystem::path& path,
                                                  const std::string& identity);

  // Begins a journal with what is kept of an earlier one, which it replaces in one step.
  static Result<Journal> create(const std::filesystem::path& path, const std::string& identity,
                                const std::map<std::string, JournalEntry>& kept);

  // Lasts once sync() has returned; without it, until the power goes.
  Status add(const std::string& file, const JournalEntry& entry);
  Status sync() { return file_.sync(); }

 private:
  explicit Journal(OutputFile file) : file_(std::move(file)) {}
  OutputFile file_;
};

}  // namespace odmoe

// A reader that passes everything on to another, for readers that change some of it.
#pragma once

#include <memory>
#include <utility>

#include "io/async_reader.h"

namespace odmoe {

class ForwardingReader : public AsyncReader {
 public:
  Result<int> add_file(const std::filesystem::path& path) override { return inner_->add_file(path); }
  int n_file() const override { return inner_->n_file(); }
  uint64_t file_bytes(int file) const override { return inner_->file_bytes(file); }
  const std::filesystem::path& path(int file) const override { return inner_->path(file); }
  ReadAlignment alignment() const override { return inner_->alignment(); }
  uint32_t depth() const override { return inner_->depth(); }
  std::string_view name() const override { return inner_->name(); }
  void wake() override { inner_->wake(); }
  void flush() override { inner_->flush(); }

 protected:
  explicit ForwardingReader(std::unique_ptr<AsyncReader> inner) : inner_(std::move(inner)) {}
  AsyncReader& wrapped() { return *inner_; }
  const AsyncReader& wrapped() const { return *inner_; }

 private:
  std::unique_ptr<AsyncReader> inner_;
};

}  // namespace odmoe

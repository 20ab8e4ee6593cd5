// The names of one scope while they are resolved; see resolver.h.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "jinja/ast.h"

namespace odmoe::jinja {

// A function's slots while they are handed out.  Scopes of equal depth in it share those of equal names: only
// one of them is entered at a time.
class SlotTable {
 public:
  SlotTable(Function& function, const SlotTable* outer)
      : function_(function), depth_(outer == nullptr ? 0 : outer->depth_ + 1) {}

  // `apart`: of a loop's condition, which runs in between.
  int slot(int level, bool apart, const std::string& name) {
    const auto [found, added] = slots_.try_emplace({level, apart, name}, function_.n_slots);
    if (added) ++function_.n_slots;
    return found->second;
  }
  int depth() const { return depth_; }

 private:
  Function& function_;
  int depth_;
  std::map<std::tuple<int, bool, std::string>, int> slots_;
};

// A variable: a slot of a function that is so many functions deep.
struct Place {
  int depth = 0;
  int index = 0;
};

class Symbols {
 public:
  // `outer` must outlive it and its copies.
  Symbols(const Symbols* outer, SlotTable& slots, bool apart = false)
      : outer_(outer), slots_(&slots), level_(outer == nullptr ? 0 : outer->level_ + 1), apart_(apart) {}

  // What jinja2's idtracking.Symbols does under these names.
  void load(const std::string& name);
  void store(const std::string& name);
  int declare_parameter(const std::string& name);
  void branch_update(const std::vector<Symbols>& branches);

  bool knows(const std::string& name) const { return find(name) != nullptr; }
  // From the scope's own function.
  Slot slot(const std::string& name) const;
  // Parameters left out.
  Loads loads() const;

 private:
  const Place* find(const std::string& name) const;
  Place define(const std::string& name);
  void begin_as_outer(int index, const std::string& name, Load::From otherwise);

  const Symbols* outer_;
  SlotTable* slots_;
  int level_;
  bool apart_;
  std::map<std::string, Place> refs_;
  std::map<int, Load> loads_;     // by slot
  std::set<int> parameters_;      // slots
  std::set<std::string> stores_;  // names that are set here
};

}  // namespace odmoe::jinja

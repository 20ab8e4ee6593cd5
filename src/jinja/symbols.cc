#include "jinja/symbols.h"

#include "jinja/failure.h"

namespace odmoe::jinja {

const Place* Symbols::find(const std::string& name) const {
  const auto found = refs_.find(name);
  if (found != refs_.end()) return &found->second;
  return outer_ == nullptr ? nullptr : outer_->find(name);
}

Place Symbols::define(const std::string& name) {
  const Place place{.depth = slots_->depth(), .index = slots_->slot(level_, apart_, name)};
  refs_[name] = place;
  return place;
}

void Symbols::begin_as_outer(int index, const std::string& name, Load::From otherwise) {
  Load load{.index = index, .from = otherwise, .name = name, .slot = {}};
  if (const Place* outer = outer_ == nullptr ? nullptr : outer_->find(name)) {
    load.from = Load::From::kSlot;
    load.slot = {.hops = slots_->depth() - outer->depth, .index = outer->index};
  }
  loads_[index] = load;
  parameters_.erase(index);
}

void Symbols::load(const std::string& name) {
  if (knows(name)) return;
  const Place place = define(name);
  loads_[place.index] = {.index = place.index, .from = Load::From::kContext, .name = name, .slot = {}};
}

void Symbols::store(const std::string& name) {
  stores_.insert(name);
  if (refs_.contains(name)) return;
  begin_as_outer(define(name).index, name, Load::From::kNothing);
}

int Symbols::declare_parameter(const std::string& name) {
  stores_.insert(name);
  const Place place = define(name);
  loads_.erase(place.index);
  parameters_.insert(place.index);
  return place.index;
}

void Symbols::branch_update(const std::vector<Symbols>& branches) {
  std::set<std::string> stores;
  for (const Symbols& branch : branches) stores.insert(branch.stores_.begin(), branch.stores_.end());
  for (const std::string& name : stores_) stores.erase(name);
  for (const Symbols& branch : branches) {
    for (const auto& [name, place] : branch.refs_) refs_[name] = place;
    for (const auto& [index, load] : branch.loads_) loads_[index] = load;
    stores_.insert(branch.stores_.begin(), branch.stores_.end());
  }
  for (const std::string& name : stores) begin_as_outer(refs_.at(name).index, name, Load::From::kContext);
}

Slot Symbols::slot(const std::string& name) const {
  const Place* place = find(name);
  if (place == nullptr) raise(FailureKind::kSyntax, "the name '{}' cannot be resolved", name);
  return {.hops = slots_->depth() - place->depth, .index = place->index};
}

Loads Symbols::loads() const {
  Loads loads;
  loads.reserve(loads_.size());
  for (const auto& [index, load] : loads_) {
    if (!parameters_.contains(index)) loads.push_back(load);
  }
  return loads;
}

}  // namespace odmoe::jinja

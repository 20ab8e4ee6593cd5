#include "server/expert_map.h"

#include <cassert>
#include <charconv>

namespace odmoe::server {

char expert_letter(const ExpertView& expert, uint32_t uses, uint32_t most) {
  const bool often = uses > 0 && uses >= most - most / 2;
  const auto one_of = [&](char rest, char much, char little) {
    if (often) return much;
    return uses > 0 ? little : rest;
  };
  switch (expert.residency) {
    case Residency::kResident:
      return one_of('r', 'R', 'S');
    case Residency::kLoading:
      return one_of('l', 'L', 'M');
    case Residency::kAbsent:
      break;
  }
  return expert.uses == 0 ? 'a' : one_of('e', 'E', 'F');
}

bool is_expert_letter(char letter) { return std::string_view("aelrELRFMS").contains(letter); }

char at_rest(char letter) {
  switch (letter) {
    case 'R':
    case 'S':
      return 'r';
    case 'L':
    case 'M':
      return 'l';
    case 'E':
    case 'F':
      return 'e';
    default:
      return letter;
  }
}

std::string map_changes(std::string_view before, std::string_view now) {
  assert(before.size() == now.size());
  std::string changes;
  size_t passed = 0;
  for (size_t i = 0; i < now.size(); ++i) {
    if (now[i] == at_rest(before[i])) {
      ++passed;
      continue;
    }
    if (passed > 0) changes += std::to_string(passed);
    changes += now[i];
    passed = 0;
  }
  return changes;
}

Status apply_map_changes(std::string_view changes, std::string& letters) {
  for (char& letter : letters) letter = at_rest(letter);
  size_t at = 0;  // never beyond the end
  const char* const end = changes.data() + changes.size();
  for (const char* next = changes.data(); next != end;) {
    if (*next >= '0' && *next <= '9') {
      size_t passed = 0;
      const auto [rest, error] = std::from_chars(next, end, passed);
      if (error != std::errc() || passed > letters.size() - at) {
        return fail(ErrorKind::kBadFile, "the map of experts ends before its changes do");
      }
      at += passed;
      next = rest;
      continue;
    }
    if (at == letters.size() || !is_expert_letter(*next)) {
      return fail(ErrorKind::kBadFile, "the changes of the map of experts are damaged at byte {}",
                  next - changes.data());
    }
    letters[at++] = *next++;
  }
  return {};
}

}  // namespace odmoe::server

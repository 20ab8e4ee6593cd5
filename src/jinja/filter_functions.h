// The filters by themselves, for the table in filters.cc.
#pragma once

#include "jinja/filters.h"

namespace odmoe::jinja {

#define ODMOE_JINJA_FILTER(name) \
  Value filter_##name(Heap& heap, const Value& value, const Arguments& arguments)

// text_filters.cc
ODMOE_JINJA_FILTER(capitalize);
ODMOE_JINJA_FILTER(center);
ODMOE_JINJA_FILTER(escape);
ODMOE_JINJA_FILTER(forceescape);
ODMOE_JINJA_FILTER(format);
ODMOE_JINJA_FILTER(indent);
ODMOE_JINJA_FILTER(lower);
ODMOE_JINJA_FILTER(replace);
ODMOE_JINJA_FILTER(safe);
ODMOE_JINJA_FILTER(string);
ODMOE_JINJA_FILTER(title);
ODMOE_JINJA_FILTER(tojson);
ODMOE_JINJA_FILTER(trim);
ODMOE_JINJA_FILTER(truncate);
ODMOE_JINJA_FILTER(upper);
ODMOE_JINJA_FILTER(urlencode);
ODMOE_JINJA_FILTER(wordcount);
ODMOE_JINJA_FILTER(xmlattr);

// item_filters.cc
ODMOE_JINJA_FILTER(batch);
ODMOE_JINJA_FILTER(dictsort);
ODMOE_JINJA_FILTER(first);
ODMOE_JINJA_FILTER(groupby);
ODMOE_JINJA_FILTER(items);
ODMOE_JINJA_FILTER(join);
ODMOE_JINJA_FILTER(last);
ODMOE_JINJA_FILTER(length);
ODMOE_JINJA_FILTER(list);
ODMOE_JINJA_FILTER(max);
ODMOE_JINJA_FILTER(min);
ODMOE_JINJA_FILTER(reverse);
ODMOE_JINJA_FILTER(slice);
ODMOE_JINJA_FILTER(sort);
ODMOE_JINJA_FILTER(sum);
ODMOE_JINJA_FILTER(unique);

// selection_filters.cc
ODMOE_JINJA_FILTER(map);
ODMOE_JINJA_FILTER(reject);
ODMOE_JINJA_FILTER(rejectattr);
ODMOE_JINJA_FILTER(select);
ODMOE_JINJA_FILTER(selectattr);

// value_filters.cc
ODMOE_JINJA_FILTER(abs);
ODMOE_JINJA_FILTER(attr);
ODMOE_JINJA_FILTER(default);
ODMOE_JINJA_FILTER(from_json);  // by Rules::kWider alone
ODMOE_JINJA_FILTER(filesizeformat);
ODMOE_JINJA_FILTER(float);
ODMOE_JINJA_FILTER(int);
ODMOE_JINJA_FILTER(round);

}  // namespace odmoe::jinja

#include "convert/hf_weight.h"

#include <algorithm>
#include <cassert>
#include <vector>

#include "convert/hf_dequantise.h"
#include "format/printable.h"

namespace odmoe {
namespace {

constexpr int64_t kInt4Offset = 8;  // codes are unsigned; 8 stands for 0

// "FILE: tensor 'NAME' WHAT"
template <typename... Args>
std::unexpected<Error> bad(const HfCheckpoint& checkpoint, const HfCheckpoint::Tensor& tensor, ErrorKind kind,
                           std::format_string<Args...> format, Args&&... args) {
  return fail(kind, "{}: tensor '{}' {}",
              printable(checkpoint.files()[static_cast<size_t>(tensor.file)].string(), 400),
              printable(tensor.info->name), odmoe::format(format, std::forward<Args>(args)...));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t n : shape) text += odmoe::format("{}{}", text.size() > 1 ? ", " : "", n);
  return text + "]";
}

bool is_plain(std::string_view dtype) {
  return dtype == "F32" || dtype == "F16" || dtype == "BF16" || dtype == "F64";
}

// All but the last dimension.
int64_t leading(const std::vector<int64_t>& shape) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

Status check_shape(const HfCheckpoint& checkpoint, const HfCheckpoint::Tensor& tensor, size_t dimensions) {
  const auto& shape = tensor.info->shape;
  if (shape.size() == dimensions && std::ranges::none_of(shape, [](int64_t n) { return n == 0; })) return {};
  return bad(checkpoint, tensor, ErrorKind::kBadFile, "has shape {}; {} dimensions were expected",
             shape_text(shape), dimensions);
}

// A tensor of plain floats that has a row of `columns` for every row of the weight.
Status check_scale(const HfCheckpoint& checkpoint, const HfCheckpoint::Tensor& tensor, int64_t rows,
                   size_t dimensions) {
  ODMOE_RETURN_IF_ERROR(check_shape(checkpoint, tensor, dimensions));
  if (!is_plain(tensor.info->dtype)) {
    return bad(checkpoint, tensor, ErrorKind::kUnsupported, "is {}; F32, F16 or BF16 was expected",
               tensor.info->dtype);
  }
  if (leading(tensor.info->shape) == rows) return {};
  return bad(checkpoint, tensor, ErrorKind::kBadFile, "has shape {}; {} rows were expected",
             shape_text(tensor.info->shape), rows);
}

Result<HfCheckpoint::Tensor> require(const HfCheckpoint& checkpoint, const HfCheckpoint::Tensor& beside,
                                     const std::string& name) {
  const HfCheckpoint::Tensor* tensor = checkpoint.find(name);
  if (tensor != nullptr) return *tensor;
  return bad(checkpoint, beside, ErrorKind::kBadFile, "is {} but there is no tensor '{}' of its scales",
             beside.info->dtype, printable(name));
}

Result<HfWeight> find_fp8(const HfCheckpoint& checkpoint, const HfQuantisation& quantisation, HfWeight w,
                          size_t dimensions) {
  w.encoding = HfEncoding::kFp8;
  w.columns = w.data.info->shape.back();
  w.block_rows = quantisation.block_rows;
  w.block_columns = quantisation.block_columns;
  ODMOE_ASSIGN_OR_RETURN(w.scale, require(checkpoint, w.data, w.name + ".weight_scale_inv"));
  if (dimensions != 2) {
    return bad(checkpoint, w.data, ErrorKind::kUnsupported, "is FP8 and stacked, which is not read");
  }
  const int64_t block_rows = (w.rows + w.block_rows - 1) / w.block_rows;
  const int64_t block_columns = (w.columns + w.block_columns - 1) / w.block_columns;
  ODMOE_RETURN_IF_ERROR(check_scale(checkpoint, w.scale, block_rows, 2));
  if (w.scale.info->shape[1] != block_columns) {
    return bad(checkpoint, w.scale, ErrorKind::kBadFile,
               "has shape {}; [{}, {}] was expected for blocks of {} x {}", shape_text(w.scale.info->shape),
               block_rows, block_columns, w.block_rows, w.block_columns);
  }
  return w;
}

Result<HfWeight> find_int4(const HfCheckpoint& checkpoint, HfWeight w) {
  w.encoding = HfEncoding::kInt4;
  w.bits = 4;
  ODMOE_RETURN_IF_ERROR(check_shape(checkpoint, w.data, 2));
  if (w.data.info->dtype != "I32") {
    return bad(checkpoint, w.data, ErrorKind::kUnsupported, "is {}; I32 was expected", w.data.info->dtype);
  }
  for (const char* suffix : {".weight_zero_point", ".weight_g_idx"}) {
    if (checkpoint.find(w.name + suffix) != nullptr) {
      return bad(checkpoint, w.data, ErrorKind::kUnsupported,
                 "comes with {}; only symmetric int4 in plain groups is read", suffix + 1);
    }
  }
  w.rows = w.data.info->shape[0];
  ODMOE_ASSIGN_OR_RETURN(w.scale, require(checkpoint, w.data, w.name + ".weight_scale"));
  ODMOE_RETURN_IF_ERROR(check_scale(checkpoint, w.scale, w.rows, 2));
  w.columns = w.data.info->shape[1] * 8;
  // The true shape matters only where a row is not a multiple of eight codes.
  if (const HfCheckpoint::Tensor* shape = checkpoint.find(w.name + ".weight_shape"); shape != nullptr) {
    std::array<int64_t, 2> wanted = {};
    const bool wide = shape->info->dtype == "I64";
    if ((!wide && shape->info->dtype != "I32") || shape->info->bytes != (wide ? 16U : 8U)) {
      return bad(checkpoint, *shape, ErrorKind::kBadFile, "is not a pair of whole numbers");
    }
    std::array<int32_t, 2> narrow = {};
    ODMOE_RETURN_IF_ERROR(wide ? checkpoint.read(*shape, 0, std::as_writable_bytes(std::span(wanted)))
                               : checkpoint.read(*shape, 0, std::as_writable_bytes(std::span(narrow))));
    if (!wide) wanted = {narrow[0], narrow[1]};
    if (wanted[0] != w.rows || wanted[1] > w.columns || wanted[1] <= w.columns - 8) {
      return bad(checkpoint, *shape, ErrorKind::kBadFile, "says {} x {}, but the codes are for {} x {}",
                 wanted[0], wanted[1], w.rows, w.columns);
    }
    w.columns = wanted[1];
  }
  const int64_t groups = w.scale.info->shape[1];
  w.group = (w.columns + groups - 1) / groups;
  if (w.columns % groups != 0) {
    return bad(checkpoint, w.scale, ErrorKind::kUnsupported, "has {} scales for rows of {}", groups,
               w.columns);
  }
  return w;
}

Result<HfWeight> find_affine(const HfCheckpoint& checkpoint, HfWeight w, size_t dimensions) {
  w.encoding = HfEncoding::kAffine;
  ODMOE_ASSIGN_OR_RETURN(w.scale, require(checkpoint, w.data, w.name + ".scales"));
  const HfCheckpoint::Tensor* offset = checkpoint.find(w.name + ".biases");
  if (offset == nullptr) {
    return bad(checkpoint, w.data, ErrorKind::kUnsupported,
               "has scales but no biases: of MLX's modes only affine is read");
  }
  w.offset = *offset;
  for (const HfCheckpoint::Tensor& tensor : {w.scale, w.offset}) {
    ODMOE_RETURN_IF_ERROR(check_scale(checkpoint, tensor, w.rows, dimensions));
  }
  const int64_t groups = w.scale.info->shape.back();
  const int64_t row_bits = w.data.info->shape.back() * 32;
  if (w.offset.info->shape.back() != groups) {
    return bad(checkpoint, w.offset, ErrorKind::kBadFile, "has shape {}, other than the scales",
               shape_text(w.offset.info->shape));
  }
  // Rows hold whole groups, so scales and codes together tell the width: bits * group = row_bits / groups.
  // Groups are of 32, 64 or 128; which one the config says is looked up by the caller.
  for (const int64_t bits : {2, 3, 4, 5, 6, 8}) {
    if (w.group > 0 && row_bits == bits * groups * w.group) w.bits = static_cast<int>(bits);
  }
  if (w.bits == 0) {
    return bad(
        checkpoint, w.data, ErrorKind::kUnsupported,
        "has {} bits per row and {} scales, which is not a width of 2, 3, 4, 5, 6 or 8 bits in groups of {}",
        row_bits, groups, w.group);
  }
  w.columns = groups * w.group;
  return w;
}

Result<HfWeight> find_mxfp4(const HfCheckpoint& checkpoint, HfWeight w) {
  constexpr int64_t kBlock = 32;
  w.encoding = HfEncoding::kMxfp4;
  w.bits = 4;
  w.group = kBlock;
  ODMOE_RETURN_IF_ERROR(check_shape(checkpoint, w.data, 4));
  ODMOE_ASSIGN_OR_RETURN(w.scale, require(checkpoint, w.data, w.name + "_scales"));
  ODMOE_RETURN_IF_ERROR(check_shape(checkpoint, w.scale, 3));
  for (const HfCheckpoint::Tensor& tensor : {w.data, w.scale}) {
    if (tensor.info->dtype != "U8") {
      return bad(checkpoint, tensor, ErrorKind::kUnsupported, "is {}; MXFP4 is read as U8",
                 tensor.info->dtype);
    }
  }
  const auto& shape = w.data.info->shape;
  if (shape[3] != kBlock / 2 || w.scale.info->shape != std::vector(shape.begin(), shape.end() - 1)) {
    return bad(checkpoint, w.data, ErrorKind::kBadFile,
               "has shape {}, which does not fit scales of {} for 32 codes in 16 bytes each",
               shape_text(shape), shape_text(w.scale.info->shape));
  }
  w.rows = shape[0] * shape[1];
  w.columns = shape[2] * kBlock;
  return w;
}

// The group size that config.json gives for a weight of MLX: its own or the common one.
Result<int64_t> mlx_group(const HfConfig& config, const std::string& name) {
  for (const char* key : {"quantization", "quantization_config"}) {
    ODMOE_ASSIGN_OR_RETURN(const auto quantisation, config.object_or_none(key));
    if (!quantisation || !quantisation->has("group_size")) continue;
    const HfConfig* from = &*quantisation;
    std::optional<HfConfig> own;
    if (const nlohmann::json* it = quantisation->find(name); it != nullptr && it->is_object()) {
      ODMOE_ASSIGN_OR_RETURN(own, quantisation->object_or_none(name));
      if (own->has("group_size")) from = &*own;
    }
    return from->integer("group_size", 1, 4096);
  }
  return fail(ErrorKind::kBadFile,
              "{} does not tell the group_size of the quantised weights (key 'quantization')", config.name());
}

int64_t row_bytes(const HfWeight& w) {
  switch (w.encoding) {
    case HfEncoding::kPlain:
      return w.columns * static_cast<int64_t>(safetensors_dtype_bits(w.dtype()) / 8);
    case HfEncoding::kFp8:
      return w.columns;
    case HfEncoding::kInt4:
    case HfEncoding::kAffine:
      return w.data.info->shape.back() * 4;
    case HfEncoding::kMxfp4:
      return w.columns / 2;
  }
  return 0;
}

// Reads the scales (or offsets) of rows [first, first + n).
Result<std::vector<float>> read_scales(const HfCheckpoint& checkpoint, const HfCheckpoint::Tensor& tensor,
                                       int64_t first, int64_t n) {
  const auto per_row = static_cast<uint64_t>(tensor.info->shape.back());
  const uint64_t element = safetensors_dtype_bits(tensor.info->dtype) / 8;
  std::vector<std::byte> bytes(static_cast<uint64_t>(n) * per_row * element);
  ODMOE_RETURN_IF_ERROR(checkpoint.read(tensor, static_cast<uint64_t>(first) * per_row * element, bytes));
  std::vector<float> values(static_cast<uint64_t>(n) * per_row);
  if (!plain_to_float(tensor.info->dtype, bytes, values)) assert(false);
  return values;
}

// Rows as they are stored, with the scales that belong to them.
struct StoredRows {
  std::vector<std::byte> data;
  std::vector<float> scale, offset;
  int64_t scale_row = 0;               // of the first
  std::vector<std::byte> scale_bytes;  // kMxfp4
};

Result<StoredRows> read_stored_rows(const HfCheckpoint& checkpoint, const HfWeight& w, int64_t first,
                                    int64_t n) {
  StoredRows stored;
  const auto bytes = static_cast<uint64_t>(row_bytes(w));
  stored.data.resize(static_cast<uint64_t>(n) * bytes);
  ODMOE_RETURN_IF_ERROR(checkpoint.read(w.data, static_cast<uint64_t>(first) * bytes, stored.data));
  switch (w.encoding) {
    case HfEncoding::kPlain:
      break;
    case HfEncoding::kFp8: {
      stored.scale_row = first / w.block_rows;
      const int64_t last = (first + n - 1) / w.block_rows;
      ODMOE_ASSIGN_OR_RETURN(stored.scale,
                             read_scales(checkpoint, w.scale, stored.scale_row, last - stored.scale_row + 1));
      break;
    }
    case HfEncoding::kInt4: {
      ODMOE_ASSIGN_OR_RETURN(stored.scale, read_scales(checkpoint, w.scale, first, n));
      stored.offset.resize(stored.scale.size());
      std::ranges::transform(stored.scale, stored.offset.begin(),
                             [](float scale) { return -static_cast<float>(kInt4Offset) * scale; });
      break;
    }
    case HfEncoding::kAffine: {
      ODMOE_ASSIGN_OR_RETURN(stored.scale, read_scales(checkpoint, w.scale, first, n));
      ODMOE_ASSIGN_OR_RETURN(stored.offset, read_scales(checkpoint, w.offset, first, n));
      break;
    }
    case HfEncoding::kMxfp4: {
      const auto per_row = static_cast<uint64_t>(w.columns / w.group);
      stored.scale_bytes.resize(static_cast<uint64_t>(n) * per_row);
      ODMOE_RETURN_IF_ERROR(
          checkpoint.read(w.scale, static_cast<uint64_t>(first) * per_row, stored.scale_bytes));
      break;
    }
  }
  return stored;
}

// How many rows are read at a time: enough for the drive, little beside the result.
int64_t rows_per_read(const HfWeight& w) {
  constexpr int64_t kReadBytes = 1 << 20;
  return std::max<int64_t>(1, kReadBytes / std::max<int64_t>(1, row_bytes(w)));
}

void fp8_rows(const HfWeight& w, const StoredRows& stored, int64_t first, int64_t n, std::span<float> out) {
  static const std::vector<float> kValues = [] {
    std::vector<float> values(256);
    for (size_t i = 0; i < values.size(); ++i) values[i] = fp8_e4m3_to_float(static_cast<uint8_t>(i));
    return values;
  }();
  const int64_t scales = w.scale.info->shape[1];
  for (int64_t row = 0; row < n; ++row) {
    const float* scale = stored.scale.data() + ((first + row) / w.block_rows - stored.scale_row) * scales;
    const std::byte* code = stored.data.data() + row * w.columns;
    float* to = out.data() + row * w.columns;
    for (int64_t c = 0; c < w.columns; ++c) {
      to[c] = kValues[static_cast<size_t>(code[c])] * scale[c / w.block_columns];
    }
  }
}

// Calls `use` with each row's codes, scales and offsets.
template <typename Use>
bool each_coded_row(const HfWeight& w, const StoredRows& stored, int64_t n, const Use& use) {
  std::vector<uint8_t> codes(static_cast<size_t>(w.columns));
  const auto groups = static_cast<size_t>((w.columns + w.group - 1) / w.group);
  const auto bytes = static_cast<size_t>(row_bytes(w));
  for (size_t row = 0; row < static_cast<size_t>(n); ++row) {
    unpack_codes(std::span(stored.data).subspan(row * bytes, bytes), w.bits, codes);
    if (!use(row, codes, std::span(stored.scale).subspan(row * groups, groups),
             std::span(stored.offset).subspan(row * groups, groups))) {
      return false;
    }
  }
  return true;
}

// Rows of MXFP4 by `convert`, which is one of hf_dequantise.h's; `out` has a row's elements or bytes for
// each.
template <typename T, typename Convert>
Status mxfp4_rows(const HfCheckpoint& checkpoint, const HfWeight& w, const StoredRows& stored, int64_t n,
                  std::span<T> out, const Convert& convert) {
  const auto codes = static_cast<size_t>(row_bytes(w));
  const auto scales = static_cast<size_t>(w.columns / w.group);
  const size_t to = out.size() / static_cast<size_t>(n);
  for (size_t row = 0; row < static_cast<size_t>(n); ++row) {
    if (!convert(std::span<const std::byte>(stored.data).subspan(row * codes, codes),
                 std::span<const std::byte>(stored.scale_bytes).subspan(row * scales, scales),
                 out.subspan(row * to, to))) {
      return bad(checkpoint, w.scale, ErrorKind::kBadFile,
                 "has a scale that is not a number: it is damaged; download it again");
    }
  }
  return {};
}

}  // namespace

Result<HfQuantisation> HfQuantisation::parse(const HfConfig& config) {
  HfQuantisation result;
  ODMOE_ASSIGN_OR_RETURN(const auto quantisation, config.object_or_none("quantization_config"));
  constexpr std::string_view kKnown =
      "fp8 in blocks (DeepSeek-V3), compressed-tensors pack-quantized int4 (Kimi-K2.5), mxfp4 (gpt-oss), MLX "
      "affine";
  // MLX writes the same object under both names, without a quant_method.
  for (const char* key : {"quantization", "quantization_config"}) {
    ODMOE_ASSIGN_OR_RETURN(const auto mlx, config.object_or_none(key));
    if (!mlx || mlx->has("quant_method")) continue;
    ODMOE_ASSIGN_OR_RETURN(const std::string mode, mlx->string_or("mode", "affine"));
    if (mode != "affine") {
      return fail(ErrorKind::kUnsupported, "{}: MLX's quantisation mode '{}' is not read; known are {}",
                  config.name(), printable(mode, 40), kKnown);
    }
  }
  if (!quantisation || !quantisation->has("quant_method")) return result;
  ODMOE_ASSIGN_OR_RETURN(const std::string method, quantisation->string_or("quant_method", ""));
  if (method == "fp8") {
    ODMOE_ASSIGN_OR_RETURN(const std::string format, quantisation->string_or("fmt", "e4m3"));
    const nlohmann::json* block = quantisation->find("weight_block_size");
    const auto side = [&](size_t i) {
      return (*block)[i].is_number_integer() ? (*block)[i].get<int64_t>() : 0;
    };
    // MiniMax writes PyTorch's name of the same.
    if ((format != "e4m3" && format != "float8_e4m3fn") || block == nullptr || !block->is_array() ||
        block->size() != 2 || side(0) < 1 || side(1) < 1 || side(0) > 1 << 20 || side(1) > 1 << 20) {
      return fail(ErrorKind::kUnsupported,
                  "{}: FP8 is read as e4m3 with a weight_block_size of two numbers, which this is not",
                  config.name());
    }
    result.block_rows = side(0);
    result.block_columns = side(1);
    return result;
  }
  // All there is to know stands in the weights' shapes.
  if (method == "mxfp4") return result;
  if (method == "compressed-tensors") {
    ODMOE_ASSIGN_OR_RETURN(const std::string format, quantisation->string_or("format", ""));
    ODMOE_ASSIGN_OR_RETURN(const auto groups, quantisation->object_or_none("config_groups"));
    bool good = format == "pack-quantized" && groups.has_value() && !groups->json().empty();
    if (good) {
      for (const auto& group : groups->json()) {
        const auto weights = group.is_object() ? group.find("weights") : group.end();
        if (!group.is_object() || weights == group.end() || !weights->is_object()) {
          good = false;
          break;
        }
        const HfConfig of(*weights, quantisation->name());
        ODMOE_ASSIGN_OR_RETURN(const int64_t bits, of.integer_or("num_bits", 0, 0, 64));
        ODMOE_ASSIGN_OR_RETURN(const bool symmetric, of.boolean_or("symmetric", false));
        ODMOE_ASSIGN_OR_RETURN(const std::string type, of.string_or("type", ""));
        good = good && bits == 4 && symmetric && type == "int" && !of.has("actorder");
      }
    }
    if (good) return result;
    return fail(
        ErrorKind::kUnsupported,
        "{}: of compressed-tensors only the format pack-quantized with symmetric 4-bit int weights is read",
        config.name());
  }
  return fail(ErrorKind::kUnsupported, "{}: quant_method '{}' is not read; known are {}", config.name(),
              printable(method, 40), kKnown);
}

ggml_type HfWeight::natural_type() const {
  switch (encoding) {
    case HfEncoding::kPlain:
      return dtype() == "BF16" ? GGML_TYPE_BF16 : dtype() == "F16" ? GGML_TYPE_F16 : GGML_TYPE_F32;
    case HfEncoding::kFp8:
      return GGML_TYPE_Q8_0;
    case HfEncoding::kInt4:
      return GGML_TYPE_Q4_0;
    case HfEncoding::kAffine:
      return bits <= 4 ? GGML_TYPE_Q4_1 : bits == 5 ? GGML_TYPE_Q5_1 : GGML_TYPE_Q8_0;
    case HfEncoding::kMxfp4:
      return GGML_TYPE_MXFP4;
  }
  return GGML_TYPE_F32;
}

bool HfWeight::has_grid_of(ggml_type type) const {
  if (type != natural_type()) return false;
  switch (encoding) {
    case HfEncoding::kPlain:
      return dtype() != "F64";
    case HfEncoding::kFp8:
      return false;
    case HfEncoding::kInt4:
    case HfEncoding::kAffine:
      return bits <= 5 && group % 32 == 0 && columns % 32 == 0;
    case HfEncoding::kMxfp4:
      return true;
  }
  return false;
}

Result<std::optional<HfWeight>> find_hf_weight(const HfCheckpoint& checkpoint,
                                               const HfQuantisation& quantisation, const std::string& name,
                                               size_t dimensions) {
  HfWeight w;
  w.name = name;
  if (const HfCheckpoint::Tensor* packed = checkpoint.find(name + ".weight_packed"); packed != nullptr) {
    if (dimensions != 2) {
      return bad(checkpoint, *packed, ErrorKind::kUnsupported, "is int4 and stacked, which is not read");
    }
    w.data = *packed;
    return find_int4(checkpoint, std::move(w));
  }
  if (const HfCheckpoint::Tensor* blocks = checkpoint.find(name + "_blocks");
      blocks != nullptr && dimensions == 3) {
    w.data = *blocks;
    return find_mxfp4(checkpoint, std::move(w));
  }
  const HfCheckpoint::Tensor* data = checkpoint.find(name + ".weight");
  // Stacks of experts have the name of the projection itself in some checkpoints.
  if (data == nullptr && dimensions == 3) data = checkpoint.find(name);
  if (data == nullptr) return std::nullopt;
  w.data = *data;
  ODMOE_RETURN_IF_ERROR(check_shape(checkpoint, w.data, dimensions));
  w.rows = leading(w.data.info->shape);
  w.columns = w.data.info->shape.back();
  if (is_plain(w.dtype())) return w;
  if (w.dtype() == "F8_E4M3") return find_fp8(checkpoint, quantisation, std::move(w), dimensions);
  if (w.dtype() == "U32") {
    ODMOE_ASSIGN_OR_RETURN(w.group, mlx_group(checkpoint.config(), name));
    return find_affine(checkpoint, std::move(w), dimensions);
  }
  return bad(checkpoint, w.data, ErrorKind::kUnsupported,
             "is {}, which is not read; known are F32, F16, BF16, F8_E4M3 with weight_scale_inv, int4 as "
             "weight_packed, MXFP4 as blocks and scales, MLX's U32 with scales and biases",
             w.dtype());
}

Status read_rows(const HfCheckpoint& checkpoint, const HfWeight& w, int64_t first, int64_t n,
                 std::span<float> out) {
  assert(first >= 0 && first + n <= w.rows && out.size() == static_cast<size_t>(n * w.columns));
  const int64_t step = rows_per_read(w);
  for (int64_t done = 0; done < n; done += step) {
    const int64_t rows = std::min(step, n - done);
    ODMOE_ASSIGN_OR_RETURN(const StoredRows stored, read_stored_rows(checkpoint, w, first + done, rows));
    const std::span<float> to =
        out.subspan(static_cast<size_t>(done * w.columns), static_cast<size_t>(rows * w.columns));
    switch (w.encoding) {
      case HfEncoding::kPlain:
        if (!plain_to_float(w.dtype(), stored.data, to)) assert(false);
        break;
      case HfEncoding::kFp8:
        fp8_rows(w, stored, first + done, rows, to);
        break;
      case HfEncoding::kInt4:
      case HfEncoding::kAffine:
        each_coded_row(w, stored, rows, [&](size_t row, auto codes, auto scale, auto offset) {
          affine_to_float(codes, w.group, scale, offset, to.subspan(row * codes.size(), codes.size()));
          return true;
        });
        break;
      case HfEncoding::kMxfp4:
        ODMOE_RETURN_IF_ERROR(mxfp4_rows(checkpoint, w, stored, rows, to, mxfp4_to_float));
        break;
    }
  }
  return {};
}

Status read_blocks(const HfCheckpoint& checkpoint, const HfWeight& w, ggml_type type, int64_t first,
                   int64_t n, std::span<std::byte> out) {
  const size_t row_size = ggml_row_size(type, w.columns);
  assert(w.has_grid_of(type) && first >= 0 && first + n <= w.rows &&
         out.size() == row_size * static_cast<size_t>(n));
  if (w.encoding == HfEncoding::kPlain) {
    return checkpoint.read(w.data, static_cast<uint64_t>(first) * row_size, out);
  }
  const int64_t step = rows_per_read(w);
  for (int64_t done = 0; done < n; done += step) {
    const int64_t rows = std::min(step, n - done);
    ODMOE_ASSIGN_OR_RETURN(const StoredRows stored, read_stored_rows(checkpoint, w, first + done, rows));
    if (w.encoding == HfEncoding::kMxfp4) {
      ODMOE_RETURN_IF_ERROR(
          mxfp4_rows(checkpoint, w, stored, rows,
                     out.subspan(static_cast<size_t>(done) * row_size, static_cast<size_t>(rows) * row_size),
                     mxfp4_to_blocks));
      continue;
    }
    const bool fits = each_coded_row(w, stored, rows, [&](size_t row, auto codes, auto scale, auto offset) {
      return affine_to_blocks(type, codes, w.group, scale, offset,
                              out.subspan((static_cast<size_t>(done) + row) * row_size, row_size));
    });
    if (!fits) {
      return bad(checkpoint, w.scale, ErrorKind::kUnsupported,
                 "has a scale beyond float16's range, so that {} cannot hold the weights: choose BF16 or F32 "
                 "for them",
                 ggml_type_name(type));
    }
  }
  return {};
}

}  // namespace odmoe

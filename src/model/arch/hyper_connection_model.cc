#include "model/arch/hyper_connection_model.h"

namespace odmoe {

namespace {

Result<HyperConnectionShape> read_connections(const Metadata& m, const ModelShape& shape) {
  HyperConnectionShape streams{.n_embd = shape.n_embd, .n_layer = shape.n_layer, .norm_eps = shape.norm_eps};
  ODMOE_ASSIGN_OR_RETURN(const int32_t count, m.integer("hyper_connection.count", 1, 64));
  if (count != HyperConnectionShape::kStreams) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}; models with {} are supported",
                m.file().path().string(), m.key("hyper_connection.count"), count,
                HyperConnectionShape::kStreams);
  }
  ODMOE_ASSIGN_OR_RETURN(streams.eps, m.number("hyper_connection.epsilon"));
  return streams;
}

}  // namespace

Result<std::unique_ptr<ResidualStreams>> read_hyper_connections(const Metadata& m, const ModelShape& shape,
                                                                HyperConnectionShape::End end) {
  ODMOE_ASSIGN_OR_RETURN(HyperConnectionShape streams, read_connections(m, shape));
  ODMOE_ASSIGN_OR_RETURN(streams.sinkhorn_iterations,
                         m.integer("hyper_connection.sinkhorn_iterations", 1, 1000));
  streams.end = end;
  return std::make_unique<HyperConnections>(streams);
}

Result<std::unique_ptr<ResidualStreams>> read_unmixed_connections(const Metadata& m,
                                                                  const ModelShape& shape) {
  ODMOE_ASSIGN_OR_RETURN(HyperConnectionShape streams, read_connections(m, shape));
  streams.sinkhorn_iterations = 0;
  ODMOE_ASSIGN_OR_RETURN(streams.magnitude, m.number("hyper_connection.magnitude"));
  return std::make_unique<HyperConnections>(streams);
}

}  // namespace odmoe

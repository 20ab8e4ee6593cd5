// The hyper-connections that a file asks for.
#pragma once

#include <memory>

#include "model/arch/metadata.h"
#include "model/blocks/hyper_connections.h"

namespace odmoe {

// hyper_connection.{count,sinkhorn_iterations,epsilon}.  kUnsupported for another count than ggml's.
Result<std::unique_ptr<ResidualStreams>> read_hyper_connections(const Metadata& metadata,
                                                                const ModelShape& shape,
                                                                HyperConnectionShape::End end);

// The same where the streams are not mixed: hyper_connection.{count,epsilon,magnitude}.
Result<std::unique_ptr<ResidualStreams>> read_unmixed_connections(const Metadata& metadata,
                                                                  const ModelShape& shape);

}  // namespace odmoe

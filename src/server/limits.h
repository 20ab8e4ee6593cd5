// Every bound of what the server takes in or holds.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace odmoe::server {

// Unless --max-body says otherwise: what a context can hold has no more bytes than so many for each token.
inline constexpr size_t kMaxBodyBytes = 8 << 20;
inline constexpr size_t kLeastMaxBodyBytes = 1 << 20;
inline constexpr size_t kBodyBytesPerToken = 128;
inline constexpr size_t kMaxImageBodyBytes = 64 << 20;  // the same with --vision-url

// Of a JSON body.  What its values take in memory is bounded by the requests' memory besides.
inline constexpr size_t kMaxJsonDepth = 64;
inline constexpr size_t kMaxJsonKeys = 8192;             // of one object
inline constexpr size_t kMaxJsonStringBytes = 16 << 20;  // of one string

// The memory that all requests share (request_memory.h).
inline constexpr size_t kRequestMemoryBytes = 8 << 20;   // besides what a body of --max-body takes
inline constexpr size_t kSmallRequestBytes = 256 << 10;  // requests up to this have a share set aside
inline constexpr std::chrono::seconds kMemoryWait{5};    // for what others have

inline constexpr size_t kMaxMessages = 4096;
inline constexpr size_t kMaxTools = 128;
inline constexpr size_t kMaxToolNameBytes = 128;
inline constexpr size_t kMaxImages = 16;   // of one request
inline constexpr size_t kMaxPrompts = 16;  // of one /v1/completions request
inline constexpr int32_t kMaxChoices = 16;
inline constexpr size_t kMaxGenerations = 64;  // prompts times choices
inline constexpr size_t kMaxStops = 16;
inline constexpr size_t kMaxStopBytes = 1024;
inline constexpr size_t kMaxStopTokens = 128;
inline constexpr int32_t kMaxPenaltyLast = 1 << 20;  // tokens, SamplingOptions::penalty_last_n
inline constexpr size_t kMaxChoiceTexts = 1000;      // of guided_choice
inline constexpr int32_t kMaxTopLogprobs = 20;
inline constexpr size_t kMaxMetadata = 16;  // pairs of a response's
inline constexpr size_t kMaxMetadataKeyBytes = 64 * 4, kMaxMetadataValueBytes = 512 * 4;
inline constexpr size_t kMaxStoredResponses = 8192;
inline constexpr size_t kDefaultResponseStoreBytes = 16 << 20;  // --response-store
inline constexpr size_t kMaxListedItems = 100;                  // of input_items at once
inline constexpr size_t kMaxLogitBias = kMaxJsonKeys;
inline constexpr size_t kMaxSubscribers = 8;          // of /v1/events, and half of the connections
inline constexpr size_t kMaxHeldBackBytes = 1 << 20;  // output that waits for a client that does not read

// Of a batch (batch/batch_input.h).
inline constexpr size_t kMaxBatchRequests = 1'000'000;
inline constexpr size_t kMaxBatchLineBytes = kMaxBodyBytes + (64 << 10);
inline constexpr size_t kMaxCustomIdBytes = 512;
// Of the files and batches that the server keeps (batch/batch_store.h): OpenAI's own bounds.
inline constexpr size_t kMaxServedBatchRequests = 50'000;
inline constexpr uint64_t kMaxFileBytes = uint64_t{512} << 20;
inline constexpr uint64_t kDefaultBatchDiskBytes = uint64_t{16} << 30;  // --batch-disk
inline constexpr size_t kMaxStoredFiles = 4096;
inline constexpr size_t kMaxStoredBatches = 4096;
inline constexpr size_t kMaxBatchRecordBytes = 8 << 20;  // of all batches: then those that ended first go
inline constexpr size_t kMaxFileNameBytes = 255;
inline constexpr size_t kMaxListBytes = 64 << 10;                                  // of a page of them, about
inline constexpr size_t kMaxBatchErrors = 100;                                     // that are told of a file
inline constexpr int64_t kLeastFileSeconds = 3600, kMostFileSeconds = 30 * 86400;  // expires_after
inline constexpr int64_t kMostWindowSeconds = 30 * 86400;                          // completion_window
inline constexpr size_t kMaxFormParts = 32;
inline constexpr size_t kMaxFormHeaderBytes = 4096;
inline constexpr size_t kMaxFormFieldBytes = 1024;
inline constexpr size_t kBatchAhead = 8;  // requests that wait for a session, so that none is without one
inline constexpr size_t kBatchRequestBytes =
    256 << 10;  // that a request under way takes of memory, beside its body

// The head of a request; a little less than what the HTTP library takes, which is shown more than was sent.
inline constexpr size_t kMaxTargetBytes = 8000;
inline constexpr size_t kMaxFieldBytes = 8000;  // of one header that is looked at, with a "%" as three
inline constexpr size_t kMaxFields = 96;
inline constexpr size_t kMaxHeadBytes = 64 * 1024;
inline constexpr size_t kMaxEmptyLines = 2;  // before it
// A body in chunks, beside its data.
inline constexpr size_t kMaxChunkDigits = 16;
inline constexpr size_t kMaxChunkExtensionBytes = 256;  // of one chunk
inline constexpr size_t kMaxTrailerBytes = 4 * 1024;
// Of a browser's question what it may send from another origin.
inline constexpr size_t kMaxPreflightBytes = 4 * 1024;
// What is remembered of how conversations were divided (turn_ledger.h): some 8,000 answers of 200 tokens.
inline constexpr size_t kTurnLedgerBytes = 4 << 20;
// What a generation takes that waits, its prompt and lists apart.
inline constexpr size_t kGenerationBytes = 4 << 10;

// A connection that sends a request slower than this is closed: so long at first, and a second more for so
// many bytes that came.
inline constexpr std::chrono::seconds kRequestGrace{10};
inline constexpr size_t kSlowestBytesPerSecond = 64 * 1024;
// A client that takes nothing of an answer for so long is dropped.
inline constexpr std::chrono::seconds kWriteTimeout{10};
inline constexpr std::chrono::seconds kKeepAlive{10};
inline constexpr size_t kKeepAliveRequests = 1000;  // of one connection
// What of a refused request's body is read so that the connection can go on.
inline constexpr size_t kMaxSkippedBytes = 64 * 1024;
// Whoever is answered before all was read is listened to for so much longer: what arrives at a closed socket
// makes the system throw away the answer that is on its way.
inline constexpr std::chrono::milliseconds kLinger{2000};
inline constexpr size_t kMaxLingerBytes = 256 << 20;
// Connections beyond the limit that are told so with all that belongs to an answer, if they ask for so long;
// those beyond them are told so without being read.
inline constexpr size_t kRefusalThreads = 4;
inline constexpr std::chrono::milliseconds kRefusalGrace{250};
inline constexpr size_t kMaxParting = 64;  // of those, listened to until they are gone
// How long a new connection waits for one that is just about to give way to it.
inline constexpr std::chrono::milliseconds kGivingWay{100};
// A connection that was never asked for anything gives way to new ones when it is so old.
inline constexpr std::chrono::milliseconds kSilence{1000};
inline constexpr int kListenBacklog = 128;
// How long nothing is accepted when the system has no descriptors or memory left for it.
inline constexpr std::chrono::milliseconds kAcceptPause{50};
// What a connection takes beside what its request and answer do: its buffers, and what of its thread's stack
// is ever touched.  64 that were asked for /health took 63 KiB each.
inline constexpr size_t kConnectionBytes = 96 * 1024;

// How often a request that waits looks whether its client is still there.
inline constexpr std::chrono::milliseconds kLiveness{10};
// How long the end of the server waits for those who listen to its live events to be told.
inline constexpr std::chrono::seconds kEndOfEvents{1};
// How long it then waits for those it answers to be told that it ends.
inline constexpr std::chrono::milliseconds kEndOfAnswers{750};
// A comment goes to a streaming client when nothing else did for so long, lest something on the way gives up.
inline constexpr std::chrono::seconds kStreamKeepAlive{15};

}  // namespace odmoe::server

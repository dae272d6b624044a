/* SPDX-License-Identifier: Apache-2.0 */
/* Events that the filter does not care for. Envoy wants each to be there when it loads the library. */
#include "envoy_abi.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define FILTER envoy_filter filter, const void *module
#define CONFIG envoy_config config, const void *module
#define HEADERS const struct envoy_header *headers, size_t header_count
#define CHUNKS const struct envoy_bytes *chunks, size_t chunk_count
#define IGNORED(event, ...) EXPORT void envoy_dynamic_module_on_http_filter_##event(__VA_ARGS__) {}
#define PASSED(event, ...)                                                        \
    EXPORT enum filter_status envoy_dynamic_module_on_http_filter_##event(__VA_ARGS__) { \
        return STATUS_CONTINUE;                                                   \
    }

PASSED(request_body, FILTER, bool end_of_stream)
PASSED(request_trailers, FILTER)
PASSED(response_headers, FILTER, bool end_of_stream)
PASSED(response_body, FILTER, bool end_of_stream)
PASSED(response_trailers, FILTER)
PASSED(local_reply, FILTER, uint32_t code, struct envoy_bytes details, bool reset_imminent)

IGNORED(stream_complete, FILTER)
IGNORED(destroy, const void *module)
IGNORED(scheduled, FILTER, uint64_t event)
IGNORED(downstream_above_write_buffer_high_watermark, FILTER)
IGNORED(downstream_below_write_buffer_low_watermark, FILTER)
IGNORED(http_callout_done, FILTER, uint64_t id, int result, HEADERS, CHUNKS)
IGNORED(http_stream_headers, FILTER, uint64_t id, HEADERS, bool end_of_stream)
IGNORED(http_stream_data, FILTER, uint64_t id, CHUNKS, bool end_of_stream)
IGNORED(http_stream_trailers, FILTER, uint64_t id, HEADERS)
IGNORED(http_stream_complete, FILTER, uint64_t id)
IGNORED(http_stream_reset, FILTER, uint64_t id, int reason)

IGNORED(config_scheduled, CONFIG, uint64_t event)
IGNORED(config_http_callout_done, CONFIG, uint64_t id, int result, HEADERS, CHUNKS)
IGNORED(config_http_stream_headers, CONFIG, uint64_t id, HEADERS, bool end_of_stream)
IGNORED(config_http_stream_data, CONFIG, uint64_t id, CHUNKS, bool end_of_stream)
IGNORED(config_http_stream_trailers, CONFIG, uint64_t id, HEADERS)
IGNORED(config_http_stream_complete, CONFIG, uint64_t id)
IGNORED(config_http_stream_reset, CONFIG, uint64_t id, int reason)

/* There is nothing to configure per route: NULL, and Envoy refuses. */
EXPORT const void *envoy_dynamic_module_on_http_filter_per_route_config_new(
    struct envoy_bytes name, struct envoy_bytes config) {
    return NULL;
}
IGNORED(per_route_config_destroy, const void *module)

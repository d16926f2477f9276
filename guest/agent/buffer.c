// SPDX-License-Identifier: GPL-2.0
#include <stdlib.h>
#include <string.h>

#include "agent.h"

/* Room for size more bytes at ->data + ->end. */
unsigned char *buffer_reserve(struct buffer *buffer, size_t size)
{
	size_t used = buffer_size(buffer);

	if (buffer->start) {
		memmove(buffer->data, buffer_data(buffer), used);
		buffer->start = 0;
		buffer->end = used;
	}
	if (used + size > buffer->room) {
		buffer->room = 2 * (used + size);
		buffer->data = realloc(buffer->data, buffer->room);
		if (!buffer->data)
			fatal("out of memory: %zu bytes", buffer->room);
	}
	return buffer->data + buffer->end;
}

void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
	memcpy(buffer_reserve(buffer, size), data, size);
	buffer->end += size;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
	buffer->start += size;
	if (buffer->start == buffer->end) {
		buffer->start = 0;
		buffer->end = 0;
	}
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

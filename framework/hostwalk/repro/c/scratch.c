/* What a call reads, or writes. */
static char scratch[65536];

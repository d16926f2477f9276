/* Files of one value that are set for a while; what was there is put back, at the end at the latest. */
static struct setting {
	char path[256];
	char old[128];
} settings[16];
static int nr_settings;
static pid_t setter;

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	int done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/* Of "always [madvise] never" the word in brackets; nothing of what is too long. */
static int read_text(const char *path, char *text, int size)
{
	int fd = open(path, O_RDONLY);
	int got = fd < 0 ? -1 : read(fd, text, size - 1);
	char *chosen;

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	chosen = strchr(text, '[');
	if (chosen && strchr(chosen, ']')) {
		*strchr(chosen, ']') = '\0';
		memmove(text, chosen + 1, strlen(chosen));
	}
	return got > 0 && got < size - 1;
}

static void put_back(void)
{
	struct setting *last = &settings[--nr_settings];

	if (!write_text(last->path, last->old))
		perror(last->path);
}

static void put_all_back(void)
{
	while (nr_settings && getpid() == setter)
		put_back();
}

/* Remember what is in a file, if it tells. */
static int keep(const char *path)
{
	struct setting *next = &settings[nr_settings];

	if (nr_settings == 16 || !read_text(path, next->old, sizeof(next->old)))
		return 0;
	snprintf(next->path, sizeof(next->path), "%s", path);
	if (!setter)
		atexit(put_all_back);
	setter = getpid();
	nr_settings++;
	return 1;
}

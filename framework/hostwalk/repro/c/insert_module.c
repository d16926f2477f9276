/* What the armed call came to; the mappings hold the file, and so the pages. */
static struct repro_result result;
static int armed = -1;

static int report(int ret)
{
	result.runs++;
	result.ret = ret;
	return ret;
}

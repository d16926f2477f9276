/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Name/value tables that a compiler leaves in a section of an ELF file for the
 * host to read. Values must be constant expressions; nothing reads the table
 * at run time.
 */
#ifndef HOSTWALK_TABLE_H
#define HOSTWALK_TABLE_H

#define HOSTWALK_NAME_MAX 88

struct hostwalk_entry {
	char name[HOSTWALK_NAME_MAX];
	unsigned long long value;
};

#define HOSTWALK_PASTE_(a, b) a##b
#define HOSTWALK_PASTE(a, b) HOSTWALK_PASTE_(a, b)

/* HOSTWALK_TABLE_SECTION names the section; define it before use. */
#define HOSTWALK_ENTRIES						\
	static const struct hostwalk_entry				\
	HOSTWALK_PASTE(hostwalk_entry_, __COUNTER__)[]			\
	__attribute__((used, section(HOSTWALK_TABLE_SECTION),		\
		       aligned(sizeof(unsigned long long))))

#define HOSTWALK_PAIR(key, number)					\
	{ .name = key, .value = (unsigned long long)(number) }

#define HOSTWALK_ENTRY(key, number)					\
	HOSTWALK_ENTRIES = { HOSTWALK_PAIR(key, number) }

#define HOSTWALK_CONST(name) HOSTWALK_ENTRY(#name, name)
#define HOSTWALK_SIZEOF(type) HOSTWALK_ENTRY("sizeof(" #type ")", sizeof(type))

/* Keys: "offsetof(struct page, _refcount)", "sizeof(struct page._refcount)". */
#define HOSTWALK_MEMBER(type, member)					\
	HOSTWALK_ENTRIES = {						\
		HOSTWALK_PAIR("offsetof(" #type ", " #member ")",	\
			      __builtin_offsetof(type, member)),	\
		HOSTWALK_PAIR("sizeof(" #type "." #member ")",		\
			      sizeof(((type *)0)->member)),		\
	}

#endif

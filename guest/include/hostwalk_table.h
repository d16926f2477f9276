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
#define HOSTWALK_ENTRY(key, number)					\
	static const struct hostwalk_entry				\
	HOSTWALK_PASTE(hostwalk_entry_, __COUNTER__)			\
	__attribute__((used, section(HOSTWALK_TABLE_SECTION),		\
		       aligned(sizeof(unsigned long long)))) = {	\
		.name = key,						\
		.value = (unsigned long long)(number),			\
	}

#define HOSTWALK_CONST(name) HOSTWALK_ENTRY(#name, name)
#define HOSTWALK_SIZEOF(type) HOSTWALK_ENTRY("sizeof(" #type ")", sizeof(type))

/* Key: "struct page._refcount"; one entry each for offset, size and sign. */
#define HOSTWALK_MEMBER(type, member)					\
	HOSTWALK_ENTRY("offsetof(" #type ", " #member ")",		\
		       __builtin_offsetof(type, member));		\
	HOSTWALK_ENTRY("sizeof(" #type "." #member ")",			\
		       sizeof(((type *)0)->member))

#endif

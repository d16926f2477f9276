// SPDX-License-Identifier: GPL-2.0
/* A look at page tables, to refuse what would be a BUG. */
#include <linux/pgtable.h>

#include "compat.h"
#include "hostwalk.h"

/* The entry of addr in a table of ptes; NULL if there is no such table. */
static pte_t *hostwalk_pte(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	if (pgd_none(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d))
		return NULL;
	pud = pud_offset(p4d, addr);
	if (!pud_present(*pud) || pud_leaf(*pud))
		return NULL;
	pmd = pmd_offset(pud, addr);
	if (!pmd_present(*pmd) || pmd_leaf(*pmd))
		return NULL;
	return pte_offset_kernel(pmd, addr);
}

/* Needs mmap_lock. */
bool hostwalk_has_pte_table(struct mm_struct *mm, unsigned long addr)
{
	return hostwalk_pte(mm, addr);
}

/* Needs mmap_lock for writing, and a mapping without huge pages. */
bool hostwalk_range_is_empty(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	unsigned long addr;
	pte_t *pte;

	for (addr = start; addr < end; addr += PAGE_SIZE) {
		pte = hostwalk_pte(mm, addr);
		if (pte && !pte_none(ptep_get(pte)))
			return false;
	}
	return true;
}

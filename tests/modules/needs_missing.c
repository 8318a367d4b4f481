/* SPDX-License-Identifier: MIT */
/* It is linked with a cuBLAS that is not there when it is opened. */
int cublas_is_missing(void);

int (*libnin_knows_nothing_of_this)(void) = cublas_is_missing;

# SPDX-License-Identifier: Apache-2.0
def write_page(path, results):
    pass


def write_ensemble(path, results):
    pass

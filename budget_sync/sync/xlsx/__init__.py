"""Excel files (.xlsx and .xlsm): the cells of one worksheet, within limits of memory and time.

`package` opens the zip archive, `xml` reads a part, `workbook` finds the worksheet and its styles,
`scan` checks the worksheet and finds what python-calamine does not tell, and `read` puts both
together. python-calamine never sees the file itself: it reads a copy of the checked parts.
"""

from budget_sync.sync.xlsx.read import Sheet, read_xlsx

__all__ = ["Sheet", "read_xlsx"]

"""The words of real budget sheets: headings of each column, and words in cells. Data only.

Collected from 268 delimited files in 36 public repositories, and from the alias tables of similar
programs. Headings are compared by `headings.hkey`, words by their folded text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _words(text: str) -> frozenset[str]:
    """The entries of a list; several words of one entry are joined by underscores."""
    return frozenset(entry.replace("_", " ") for entry in text.split())


def _entries(text: str) -> tuple[str, ...]:
    """The entries of a list that is separated by commas."""
    return tuple(" ".join(entry.split()) for entry in text.split(",") if entry.strip())


#: Headings of the department column by score. 10 is sure, and below 7 a person is asked.
DEPARTMENT_HEADINGS: Final[Mapping[float, tuple[str, ...]]] = {
    10: _entries(
        """Department, Departments, Dept, Department Name, Dept Name, Department Title, Dept Title,
        Department Description, Abteilung, Département, Departement, Departamento, Afdeling,
        Dipartimento"""
    ),
    9: _entries(
        """Cost Center, Cost Centre, Cost Center Name, Cost Centre Name, CC, CC Name, Kostenstelle,
        Kostenstellenbezeichnung, KST, Centre de coût, Centre de coûts, Centro de costo,
        Centro de costos, Centro de coste, Centro de costes"""
    ),
    8: _entries(
        """Business Unit, BU, Org Unit, Organizational Unit, Organisational Unit,
        Organisationseinheit, Unité organisationnelle, Unidad organizativa, Unidad ejecutora,
        Budget Owner Department, Amt"""
    ),
    7: _entries(
        """Organization, Organisation, Agency, Agency Name, Agency/Department, Fachbereich, Bereich,
        Dienststelle, Direction, Dirección, Secretaría, Dependencia, Responsibility Center,
        Profit Center, Ministry, Ministry Name, Ministerium, Ministère, Ministerio,
        Secretaria"""
    ),
    6: _entries(
        """Team, Area, Área, Bureau, Budget Holder, Department/Division, Budget Unit, Ressort,
        Referat,
        Teilhaushalt, Cost Center Code, Cost Center ID, Cost Center Number, Cost Center No,
        Cost Centre Code, Cost Centre ID, Cost Centre Number, Cost Centre No, KSt-Nr,
        Kostenstellennummer, Org Code"""
    ),
    5: _entries(
        """Division, Unit, Office, Function, Service, Section, Group, Entity, Branch,
        Organization Unit, Operating Unit, Operating Unit Description, Neighborhood, Program,
        Cabinet, Line of Business, Dezernat"""
    ),
}

#: Headings of the period column by score. Below 5 it is used only if all values are periods.
PERIOD_HEADINGS: Final[Mapping[float, tuple[str, ...]]] = {
    10: _entries(
        """Fiscal Period, Fiscal Year, Budget Period, Budget Fiscal Year, Financial Year,
        Geschäftsjahr, Haushaltsjahr, Exercice, Ejercicio, Ejercicio fiscal"""
    ),
    9: _entries(
        """FY, Fiscal Yr, Period, Time Period, Budget Year, Budget Year Name, Wirtschaftsjahr,
        Planjahr, Periode, Période, Periodo, Zeitraum"""
    ),
    8: _entries("Year, Years, Yr, Jahr, Année, Año, Anno"),
    7: _entries(
        """Month, Budget Month, Fiscal Month, Quarter, Fiscal Quarter, Qtr, Monat, Quartal,
        Halbjahr, Trimestre, Semestre, Mois, Mes"""
    ),
    6: _entries(
        "When, Month Start Date, Period Start, Month Year, Accounting Period, Buchungsperiode"
    ),
    4: _entries("Date, Month Name, Start Date, Effective Date"),
}

#: Headings of the amount column by score. Below 5 a person is asked if another column can be it.
AMOUNT_HEADINGS: Final[Mapping[float, tuple[str, ...]]] = {
    10: _entries(
        """Budgeted Amount, Budget Amount, Budget Amt, Budget, Annual Budget, Approved Budget,
        Adopted Budget, Final Budget, Total Budget, Planbetrag, Budgetbetrag, Montant budgété,
        Importe presupuestado, Presupuesto aprobado, Presupuesto anual"""
    ),
    9: _entries(
        """Budgeted, Amount Budgeted, Allocated, Allocated Budget, Allocated Amount,
        Budget Allocated, Budget Allocation, Plan Amount, Planned Amount, Budget Value,
        Budget Total, Original Budget, Revised Budget, Proposed Budget, Recommended Budget,
        Current Budget, Amended Budget, Original Appn Balance, Original Appropriation, Plankosten,
        Montant alloué, Importe asignado"""
    ),
    8: _entries(
        """Appropriation, Plan, Planned, Planwert, Budgetwert, Ansatz, Haushaltsansatz,
        Presupuesto, Budget voté, Crédits votés, Crédits ouverts, Montant voté, Monto aprobado,
        Importe aprobado, Presupuesto vigente, Créditos iniciales, Orçamento, Valor orçado,
        Dotação, Stanziamento, Begroting"""
    ),
    7: _entries(
        """Adopted, Allocation, Recommended, Planned Budget, Betrag, Summe, Montant, Importe,
        Monto, Importo, Bedrag"""
    ),
    6: _entries(
        """Amount, Amt, Amount USD, Budget USD, Proposed, How Much, Mt. prévision, Valor,
        Sollwert, Soll"""
    ),
    5: _entries("Approved, Authorized, Limit Amount, Cap, Funding"),
    4: _entries("Total, Total Amount, Value, Sum, Gesamt, Estimate"),
}

#: Headings of the currency column by score.
CURRENCY_HEADINGS: Final[Mapping[float, tuple[str, ...]]] = {
    10: _entries(
        """Currency, Currency Code, Curr, CCY, ISO Currency, Währung, Waehrung, Devise, Moneda,
        Valuta, Curency, Currancy"""
    ),
    6: _entries("Money Type, Which Money, Money, Cur, Monnaie"),
}

#: Headings of the column of Budget IDs by score. Below 9 the column numbers lines, and is not used.
ID_HEADINGS: Final[Mapping[float, tuple[str, ...]]] = {
    10: _entries("Budget ID, Budget Code, Budget Key, Budget Ref, Budget Reference"),
    6: _entries("ID, Ref, Key, Code, Tracking Code"),
}

#: Headings of the column of auto-approve limits by score.
LIMIT_HEADINGS: Final[Mapping[float, tuple[str, ...]]] = {
    10: _entries(
        """Auto-Approve Limit, Auto Approval Limit, Auto-Approval Limit, Auto-Approval Threshold,
        Auto-Approve Threshold, Approval Limit, Approval Threshold, Freigabegrenze"""
    ),
}

#: Headings of the column of owners. In an unsure one, all values must be email addresses.
SURE_OWNER_HEADINGS: Final = _entries(
    """Owner Email, Owner E-Mail, Budget Owner Email, Budget Owner E-Mail, Owner Email Address,
    Budget Holder Email, E-Mail Budgetverantwortung"""
)
OWNER_HEADINGS: Final = _entries(
    """Owner, Budget Owner, Budget Holder, Responsible, Manager, Email, E-Mail, Email Address,
    Contact, Contact Email, Manager Email, Budgetverantwortlicher, Budgetverantwortliche,
    Verantwortlich, Responsable"""
)

#: Words of a heading that make a column an identifier of its department.
CODE_WORDS: Final = _words("id code no number num nr key deptid")

#: A column with such a word holds codes and not amounts, although they are numbers.
CODE_COLUMN_WORDS: Final = _words(
    """id code no number nr num zip account year month fm row line index rank deptid objectid"""
)

#: With such a word, a column "Budget …" is not an amount.
NOT_BUDGET_AMOUNT: Final = _words(
    """id code owner line year type category name holder notes status version unit area manager
    number group period item class key ref"""
)

BUDGET: Final = _words(
    """budget budgeted adopted appropriation approp plan planned proposed approved recommended
    ansatz voté vote presupuesto allocation amended revised original bp soll b authorized enacted"""
)

ACTUAL: Final = _words(
    """actual actuals spent expended ytd ist réalisé realise ejecutado obligations ca rechnung
    result resultat used"""
)

OTHER: Final = _words(
    """variance var change increase decrease % pct percent diff difference forecast estimate
    estimated fc growth projected prior outlook abweichung reforecast fcst e f"""
)

NOT_AMOUNT: Final = _words(
    """actual actuals actual% spent spend expended expenditure expenditures variance var percent pct
    % remaining available encumbered encumbrance encumbrances ytd revenue revenues change increase
    decrease cumulative utilization utilisation used headcount fte ftes ist abweichung rest réalisé
    realise écart ecart real ejecutado desviación desviacion restante forecast obligations paid
    invoiced posted committed reserved income qty quantity rate difference diff prior cost costs per
    balance no estimated projected unspent growth"""
)

EXPENSE: Final = _words(
    """e exp expense expenses expenditure expenditures aufwand aufwände aufwendung aufwendungen
    ausgabe ausgaben dépense dépenses depense depenses gasto gastos opex capex cost costs outlay
    outlays outflow outflows auszahlung auszahlungen kosten charge charges egreso egresos
    despesa despesas spesa spese uscita uscite lasten uitgaven udgift udgifter
    spending disbursements"""
)

REVENUE: Final = _words(
    """r rev revenue revenues income ertrag erträge ertraege einnahme einnahmen recette recettes
    ingreso ingresos receipts inflow inflows einzahlung einzahlungen erlös erlöse erloese
    produit produits receita receitas entrata entrate baten inkomsten indtægt indtægter"""
)

#: A longer word with one of these endings names its side: "Personalaufwand", "Steuererträge".
EXPENSE_ENDINGS: Final = ("aufwand", "aufwendungen", "ausgaben", "auszahlungen", "kosten")
REVENUE_ENDINGS: Final = ("ertrag", "erträge", "einnahmen", "einzahlungen", "erlöse")

#: Values of a status column. `is_bad_status` also knows beginnings such as "pending".
GOOD_STATUS: Final = _words(
    """approved final finalized finalised yes y active adopted true posted live locked signed
    signed_off genehmigt freigegeben ja approuvé oui voté aprobado sí si final_approved authorized
    committed"""
)

BAD_STATUS: Final = _words(
    """draft pending preliminary planning planning_phase no n proposed rejected declined cancelled
    canceled on_hold tbd submitted in_review under_review requested not_final no-draft entwurf offen
    nein abgelehnt brouillon en_attente non refusé borrador pendiente false inactive archived
    deferred withdrawn"""
)

BAD_STATUS_BEGINNINGS: Final = ("no-", "no -", "draft", "pending", "not ")

BUDGET_SCENARIO: Final = _words(
    """budget plan original_budget adopted_budget approved_budget budgeted adopted
    working_budget planned ansatz revised_budget amended_budget current_budget original revised
    amended enacted planung soll haushaltsansatz presupuesto"""
)

OTHER_SCENARIO: Final = _words(
    """actual actuals forecast estimate prior_year ist reforecast latest_estimate outlook act
    fcst le prior_actual estimated projected ergebnis rechnung rechnungsergebnis jahresrechnung
    réalisé realise ejecutado"""
)

#: Texts that mean "no amount".
BLANK_AMOUNT: Final = _words(
    """#missing n/a na n.a. nil none tbd k.a. #null null .. . -- x not_available nan"""
)

#: Names of currencies in a currency column. ISO codes are codes.
CURRENCY_WORDS: Final[Mapping[str, str]] = {
    word: code
    for code, entries in {
        "USD": ("us dollar", "us dollars", "dollar", "dollars", "us$", "$"),
        "EUR": ("euro", "euros", "€"),
        "GBP": ("pound", "pounds", "british pound", "pound sterling", "sterling", "£"),
        "CAD": ("canadian dollar", "canadian dollars", "c$"),
        "AUD": ("australian dollar", "australian dollars", "a$"),
        "JPY": ("yen", "japanese yen", "¥"),
        "INR": ("rupee", "rupees", "indian rupee", "indian rupees", "rs", "rs.", "₹"),
        "CHF": ("swiss franc", "swiss francs", "schweizer franken", "franken", "sfr", "sfr."),
        "ILS": ("shekel", "shekels", "nis", "₪"),
    }.items()
    for word in entries
}

#: Headings of files that are not budgets, by kind.
NOT_BUDGET_HEADINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "payroll": _entries(
        """Employee, Employee ID, Employee Name, First Name, Last Name, SSN, Job Title,
        Position Title, Salary, Base Salary, Wage, Pay Rate, Gross, Gross Pay, Net Pay, Deductions,
        Regular Earnings, Overtime, Hours Worked, Hire Date, Pay Period, Payroll Period"""
    ),
    "invoices": _entries(
        """Invoice, Invoice Number, Invoice No, Invoice ID, Invoice Date, Due Date, Payment Terms,
        Bill To, PO Number, Purchase Order, Unit Price, Quantity, Subtotal, Tax, VAT, Amount Due,
        Vendor Invoice, Check Number, Cheque, Voucher, Rechnungsnummer, Rechnungsdatum, Facture,
        Numéro de facture, Date facture, Factura"""
    ),
    "expenses": _entries(
        """Expense ID, Expense Report, Merchant, Receipt, Vendor, Vendor Name, Supplier, Payee,
        Submitted By, Reimbursed, Card, Purchase Date, Transaction ID, Transaction Date, Txn Date,
        Posting Date, Posted Date, Payment Date, Journal, Debit, Credit, Beleg, Belegdatum,
        Buchungsdatum, Buchungstext, IBAN, Saldo, Fournisseur, Proveedor"""
    ),
    "revenue": _entries(
        """Revenue Category, Revenue Source, Revenue Account, Revenue Type, Revenue, Revenue Amount,
        Customer, Sales Amount, Tax Revenue, Income Source, Donor, Grantor"""
    ),
    "actuals": _entries("Total Expenditure, Total Expenditures"),
}

#: One of these headings is enough to say that a file is not a budget.
DECISIVE_HEADINGS: Final = frozenset(
    _entries("Revenue Category, Revenue Source, Revenue Account, Revenue Type")
)

#: A name with one of these words reads like a total.
TOTAL_WORDS: Final = _words(
    """total totals totale totales totaux totaal subtotal subtotals sum summe summa gesamt
    gesamtsumme zwischensumme insgesamt suma overall somme ensemble toutes todos"""
)

#: The same for neighboring words.
TOTAL_PHRASES: Final = (("all", "departments"), ("alle", "abteilungen"))

#: The core of a name that is nothing but a total, as words.
PURE_TOTALS: Final = frozenset(
    tuple(entry.split())
    for entry in _entries(
        """total, totals, sum, summe, gesamt, gesamtsumme, zwischensumme, insgesamt, sous total,
        totale, totales, totaux, totaal, suma, summa, gran total, total général, total general,
        totale generale, total geral, somme, subtotal, subtotals, all departments,
        all department total, all departments total, all dept, all depts, alle abteilungen"""
    )
)

#: Words before the core of such a name.
PURE_TOTAL_PREFIXES: Final = frozenset(("grand", "sub", "overall", "general"))

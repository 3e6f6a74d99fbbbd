-- The shop of the quickstart: what it sells, what was ordered, and what it refused.

CREATE TABLE IF NOT EXISTS products (id TEXT PRIMARY KEY, price INTEGER NOT NULL, stock INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, customer TEXT NOT NULL, product TEXT NOT NULL, quantity INTEGER NOT NULL, price INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS refused_orders (id TEXT PRIMARY KEY, reason TEXT NOT NULL);

-- Prices in cents. What is there already keeps its stock.
INSERT OR IGNORE INTO products (id, price, stock) VALUES
    ('p-001', 4999, 366),
    ('p-002', 2499, 202),
    ('p-003', 1499, 99),
    ('p-004', 1999, 81),
    ('p-005', 1499, 125),
    ('p-006', 999, 106),
    ('p-007', 1999, 42),
    ('p-008', 1499, 57),
    ('p-009', 799, 91),
    ('p-010', 499, 31),
    ('p-011', 1299, 79),
    ('p-012', 2499, 53),
    ('p-013', 2499, 55),
    ('p-014', 1499, 13),
    ('p-015', 4999, 24),
    ('p-016', 1999, 15),
    ('p-017', 2499, 9),
    ('p-018', 999, 9),
    ('p-019', 4999, 6),
    ('p-020', 499, 54);

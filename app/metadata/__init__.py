"""What metadata is: any JSON object, whose values have names that filters, orders and counts ask for.

Reading what a caller gave (``reading``), the names of its values (``names``), and which values have them (``values``).
"""

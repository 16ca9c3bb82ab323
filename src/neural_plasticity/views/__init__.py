"""From the record to what is shown: plain arrays and labels, no drawing, no torch. Every renderer starts here."""

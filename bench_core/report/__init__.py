"""Write results as tables, figures and pages."""

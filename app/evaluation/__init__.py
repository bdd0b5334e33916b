"""Evaluation: which of several ways to search answers judged queries better, and how sure that is."""

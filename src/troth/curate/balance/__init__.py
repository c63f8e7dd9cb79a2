"""How topics, sources, languages, licences and viewpoints are balanced before and after curation."""

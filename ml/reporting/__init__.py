"""The model card and the report page, made from what the stages of the pipeline left in reports/."""

<%
# The audit trail. Besides root, asset and query (see layout.tpl):
#   events    of this page (see events.tpl)       more      the query of the next page; empty on the last
#   filters   what they are chosen by: .since, .user, .project, .action, .outcome, .index
#   actions, outcomes, indexes   what may be chosen; no indexes where there is one alone
#   here, is_root (see admin-nav.tpl)             wrong     empty, or what is wrong with the filters
rebase("layout", title="Audit trail")
choices = [("action", "What", actions), ("outcome", "How it ended", outcomes)]
choices += [("index", "Index", indexes)] if indexes else []
%>
<h1>Audit trail</h1>
% include("admin-nav")
% if wrong:
<p class="note" role="alert"><bdi>{{wrong[:1].upper() + wrong[1:]}}</bdi></p>
% end
<form class="filters" action="{{root}}-/admin/trail">
% for name, label, hint in (("since", "In the last", "7d, 12h"), ("user", "Who", "a user"), ("project", "Project", "a name")):
  <p><label for="f-{{name}}">{{label}}</label> <input id="f-{{name}}" name="{{name}}" value="{{getattr(filters, name)}}" placeholder="{{hint}}" autocomplete="off" autocapitalize="none"></p>
% end
% for name, label, values in choices:
  <p><label for="f-{{name}}">{{label}}</label>
    <select id="f-{{name}}" name="{{name}}">
      <option value="">any</option>
%   for value in values:
      <option{{!' selected' if value == getattr(filters, name) else ""}}>{{value}}</option>
%   end
    </select></p>
% end
  <p><button>Show</button></p>
</form>
% include("events", events=events, is_root=is_root)
% if more:
<p><a href="{{root}}-/admin/trail?{{more}}" rel="next">Older ones</a></p>
% end

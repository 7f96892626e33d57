<%
# The way through the pages of administration.
#   here      the page's path below the index's -/        is_root   whether this index is the one at the root
#   root      from here to the index's root               admin     whether this is for an admin
pages = [("admin/", "Overview"), ("admin/trail", "Audit trail"), ("admin/names", "Names")] if admin else []
pages += [("admin/users", "Users"), ("admin/tokens", "All tokens")] if admin and is_root else []
pages += [("tokens", "Your tokens")] if user else []
%>
<nav class="tabs" aria-label="Administration">
% for path, label in pages:
%   if path == here:
  <a href="{{root}}-/{{path}}" aria-current="page">{{label}}</a>
%   else:
  <a href="{{root}}-/{{path}}">{{label}}</a>
%   end
% end
</nav>
